"""The policy pack's process: started by the engine, never by hand (it serves until the engine is gone).

The last two arguments are the engine's address and the folder of the pack.
"""

import datetime
import os
import sys
from pathlib import Path

import pulumi.runtime
import pulumi_policy

# The pack's own checkout, not whichever one the environment was installed from.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.provider import engine
from fleet.sdk_patches import property_cache
from policies import pack, stack

# After a kill -9 of the CLI nobody ends this process; it has no work of its own to wait for.
engine.watch(sys.argv[-2], stop=lambda: None, busy=lambda: False)
property_cache.reads()
judged = stack.read(pulumi.runtime.get_config_env(), stack.file_of(os.environ.get("PULUMI_STACK", "")))
pulumi_policy.PolicyPack("glm-fleet", pack.policies(judged, datetime.datetime.now(datetime.UTC).date()))
