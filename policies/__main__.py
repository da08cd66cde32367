"""The policy pack's process. The Pulumi engine starts it; it serves until that engine is gone.

The last two arguments are the engine's address and the pack's folder.
"""

import datetime
import os
import sys
from pathlib import Path

import pulumi.runtime
import pulumi_policy

# Import from the pack's own checkout, not from the one that the environment was installed from.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.provider import engine
from fleet.sdk_patches import property_cache
from policies import pack, stack

# After a kill -9 of the CLI nothing else ends this process. It has no work to wait for.
engine.watch(sys.argv[-2], stop=lambda: None, busy=lambda: False)
property_cache.apply()
name = os.environ.get("PULUMI_STACK", "").rpartition("/")[2]
this_stack = stack.read(pulumi.runtime.get_config_env(), stack.file_of(name), name)
pulumi_policy.PolicyPack("glm-fleet", pack.policies(this_stack, datetime.datetime.now(datetime.UTC).date()))
