# Run in the root of the serving image's base (lab/images/rootfs.py): vLLM for the CPU from the wheels in /lab/wheels, and
# what a real serving image has besides: git and pip, for the source build of transformers. As in a vendor's image, the user that
# it will run as has no entry in /etc/passwd.
python3 -m zipfile -e /lab/wheels/uv-*.whl /lab/uv
uv=$(echo /lab/uv/uv-*.data/scripts/uv)
chmod 755 "$uv"
"$uv" venv -q --python /usr/bin/python3 /opt/venv
UV_LINK_MODE=copy "$uv" pip install -q --python /opt/venv/bin/python --no-index --find-links /lab/wheels --no-deps --no-cache \
  -r /lab/lock.txt
/opt/venv/bin/python /lab/name_vllm.py
cd /opt/venv/lib/python3.11/site-packages
# The stand-in of AMD's AITER. A small library of Python stands for its prebuilt modules, and for all that it compiles.
cp -r /lab/aiter /lab/aiter-*.dist-info .
find aiter -name __pycache__ -prune -exec rm -rf {} +
for module in compiled module_aiter_core module_gemm_a8w8 module_moe_asm module_rmsnorm; do
  cp /usr/lib/python3.11/lib-dynload/_queue.cpython-311-*.so aiter/jit/$module.so
done
# Headers and protoc serve compilers; nothing is compiled here.
rm -rf torch/include torch/bin/protoc*
find . -mindepth 2 -type d -name tests -prune -exec rm -rf {} +
# Bytecode, since the root is read-only: without it the engine would compile for 20 CPU seconds at every start. It is valid
# for its source's date, and mmdebstrap sets every date after its own start back to that: so the sources get an older one.
find . -name '*.py' -exec touch -d 2020-01-01 {} +
PYTHONDONTWRITEBYTECODE='' HOME=/tmp /opt/venv/bin/python -W ignore /lab/imports.py > /dev/null
# What is small, and imported by name while the server starts.
/opt/venv/bin/python -m compileall -q aiter vllm/entrypoints PIL uvicorn model_hosting_container_standards
# A start imports thousands of modules, in two processes; Python's search for garbage meanwhile is an eighth of its work.
echo 'import gc; gc.set_threshold(100_000, 50, 100)' > gc-seldom.pth
rm -rf /tmp/* /root/.cache
