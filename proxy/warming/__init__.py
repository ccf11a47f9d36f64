"""Images brought before anybody asks for them, and the proof that they are here.

`job.py` brings a list of images, `schedule.py` does so at its times, `missing.py` tells
what of a list is not here and asks no upstream for it, `pages.py` is where all of this is
asked for.
"""

from proxy.warming.bringing import Bringing
from proxy.warming.missing import Missing
from proxy.warming.pages import pages
from proxy.warming.schedule import Schedule
from proxy.warming.warming import Warming

__all__ = ["Bringing", "Missing", "Schedule", "Warming", "pages"]
