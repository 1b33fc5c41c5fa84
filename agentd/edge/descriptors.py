"""File descriptors, of which every connection takes one: enough of them at the start, a word when there are none left.

Without one the kernel's next connection can't be accepted. asyncio then tries again each second; uvloop accepts and
hangs up, silently. Either way who is connected goes on, so a line in the log is the only sign there is; it comes once
when they run out and once when there are some again.
"""

import errno
import os
import resource

import structlog

SPARE = 256  # files, readers, model calls, the loop's own

log = structlog.get_logger(__name__)


def raise_limit(sockets: int) -> None:
    """Let this process have as many descriptors as `sockets` need, as far as the system lets it; else say so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "descriptors.few", allowed=allowed, wanted=wanted, remedy="raise the limit: ulimit -n, LimitNOFILE="
        )


class DescriptorWatch:
    """Asked now and then; costs two system calls."""

    def __init__(self) -> None:
        self.none_left = False

    def look(self, descriptor: int) -> None:
        """Can one more be had? `descriptor` is any open one."""
        try:
            os.close(os.dup(descriptor))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and not self.none_left:
                self.none_left = True
                log.error(
                    "descriptors.none_left", allowed=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                    effect="nobody new can connect", remedy="raise the limit: ulimit -n, LimitNOFILE=",
                )  # fmt: skip
            return
        if self.none_left:
            self.none_left = False
            log.warning("descriptors.again", effect="clients can connect again")
