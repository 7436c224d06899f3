"""The settings of courses, part of ``c.MLMP``."""

from __future__ import annotations

from traitlets import Bool, Integer, List, Unicode
from traitlets.config import Configurable


class CourseSettings(Configurable):
    """What of ``c.MLMP`` is about courses."""

    roster_domains = List(
        Unicode(),
        help="""Domains of mail addresses, such as ``["uni.example.org"]``, of which the part before the ``@`` is the
        name of the user. Of all other addresses on a roster the whole address is.""",
    ).tag(config=True)
    roster_users = Bool(
        False,
        help="""Whether people on a roster become users of the hub before they ever logged in, so that their servers
        can be started before a class. Instructors then decide who is a user; whether such a user may log in is for
        the hub's login to say (``c.Authenticator.allow_existing_users``).""",
    ).tag(config=True)
    class_starts_at_once = Integer(
        10,
        min=1,
        help="""How many servers of classes may be starting at the same time. They are started in the minutes before a
        class, in the order of the roster.""",
    ).tag(config=True)
    class_names_kept = Integer(
        180,
        min=1,
        help="""For how many days after a class it is kept who had its seats. After that the seats, and their lines in
        the audit log, count for the course alone.""",
    ).tag(config=True)
