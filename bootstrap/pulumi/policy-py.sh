#!/bin/sh
# Runs a Python policy pack in the project's environment. Arguments from the engine: its flags, its address, the pack's folder.
exec "${PULUMI_PYTHON_CMD:-python3}" -u -m pulumi.policy "$@"
