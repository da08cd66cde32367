# AMD's developer cloud: docker-ce, a running older amdgpu-dkms, rocm.list with its own key path.
apt-get update -qq
python3 /usr/local/sbin/lab-vendor-engine docker-ce docker-ce-cli containerd.io 5:29.1.3-1~ubuntu.24.04~noble
older_driver
key_file /etc/apt/keyrings/rocm.gpg
echo 'deb [arch=amd64 signed-by=/etc/apt/keyrings/rocm.gpg] http://packages.lab.internal noble main' >/etc/apt/sources.list.d/rocm.list
