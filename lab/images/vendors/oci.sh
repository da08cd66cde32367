# Oracle's cloud: linux-* pinned to -1, so the headers of the running kernel have no candidate.
mkdir -p /srv/oci
common=linux-oracle-headers-$(uname -r)
deb "$common" 6.8.0-1012.12 "" true
deb "linux-headers-$(uname -r)" 6.8.0-1012.12 "Depends: $common" true
for name in "$common" "linux-headers-$(uname -r)"; do
  mv "/tmp/$name.deb" /srv/oci/
  dpkg-deb --field "/srv/oci/$name.deb" | sed "/^Description:/d" >>/srv/oci/Packages
  printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\nDescription: lab stand-in\n\n' "$name" "$(stat -c %s "/srv/oci/$name.deb")" \
    "$(sha256sum "/srv/oci/$name.deb" | cut -d' ' -f1)" >>/srv/oci/Packages
done
echo 'deb [trusted=yes] file:/srv/oci ./' >/etc/apt/sources.list.d/oci.list
printf 'Package: linux-*\nPin: release *\nPin-Priority: -1\n' >/etc/apt/preferences.d/oci
apt-get update -qq
