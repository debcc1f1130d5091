"""Makes `twistd echod` and `twist echod` known to Twisted."""

from twisted.application.service import ServiceMaker

echod = ServiceMaker("echod", "echod.plugin", "A WebSocket echo daemon", "echod")
