"""The policy pack's process: started by the engine, never by hand (it serves until the engine is gone).

The last two arguments are the engine's address and the folder of the pack.
"""

import sys
from pathlib import Path

# The pack's own checkout, not whichever one the environment was installed from.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policies import server

server.serve(sys.argv[-2])
