# Runs in the root of the site's image (lab/images/rootfs.py). /lab has the files beside this one and the source of transformers.
mkdir -p /usr/local/lib/site /srv/git /srv/hub /srv/packages /srv/registry
cp /lab/*.py /usr/local/lib/site/
printf '#!/bin/sh\nexec /usr/bin/python3 -u /usr/local/lib/site/site.py "$@"\n' > /usr/local/sbin/site
chmod 755 /usr/local/sbin/site
python3 /usr/local/lib/site/packages.py pool

# The source as a repository with fixed dates: the same source always gives the same commit. As in a real project, the pinned commit
# is not the branch's tip.
export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@lab.internal GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@lab.internal
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
mkdir /tmp/source
tar -xzf /lab/transformers-*.tar.gz -C /tmp/source --strip-components=1 --no-same-owner
cd /tmp/source
git init -q -b main
git add -A -f
git commit -q -m 'transformers, as its source distribution has it'
git rev-parse HEAD > /srv/git/transformers.commit
git commit -q --allow-empty -m 'later work, which nobody has pinned'
git clone -q --bare /tmp/source /srv/git/transformers.git
cd /
rm -rf /tmp/source /var/lib/apt/lists/*
