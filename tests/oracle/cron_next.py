"""Answers when cron expressions are due, by cronsim, an implementation independent of ours.

Standard input: one JSON object a line, {"expr", "zone", "start", "count"}; start is in seconds
since 1970. Standard output: the IANA release in use, then for each line a JSON list of the next
`count` instants strictly after start, in seconds since 1970, or a JSON string saying why not.

Zones come from the pinned tzdata package alone, never from the system. A case has ANSWER_SECONDS:
cronsim does not always come to an end.
"""

import itertools
import json
import signal
import sys
import zoneinfo
from datetime import datetime, timezone

import tzdata
from cronsim import CronSim

ANSWER_SECONDS = 10


def give_up(*_):
    raise TimeoutError(f"no answer within {ANSWER_SECONDS} s")


def answer(case):
    zone = zoneinfo.ZoneInfo(case["zone"])
    start = datetime.fromtimestamp(case["start"], timezone.utc).astimezone(zone)
    due = itertools.islice(CronSim(case["expr"], start), case["count"])
    return [int(instant.astimezone(timezone.utc).timestamp()) for instant in due]


signal.signal(signal.SIGALRM, give_up)
zoneinfo.reset_tzpath([])
print(json.dumps(tzdata.IANA_VERSION))
for line in sys.stdin:
    signal.alarm(ANSWER_SECONDS)
    try:
        print(json.dumps(answer(json.loads(line))))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
