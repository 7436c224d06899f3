"""Which page is where."""

from __future__ import annotations

from typing import Any

from mlmp_spawner.web.pages.admin.audit import AuditCsv, AuditLog, Health
from mlmp_spawner.web.pages.admin.bookings import AllBookings
from mlmp_spawner.web.pages.admin.machines import Machine, Machines
from mlmp_spawner.web.pages.admin.people import LimitsOf, People
from mlmp_spawner.web.pages.book import Book
from mlmp_spawner.web.pages.bookings import Action, Bookings, One
from mlmp_spawner.web.pages.change import Change
from mlmp_spawner.web.pages.class_new import NewClass
from mlmp_spawner.web.pages.class_room import ClassAction, OneClass
from mlmp_spawner.web.pages.course_guests import CourseGuests
from mlmp_spawner.web.pages.courses import CourseAction, Courses, NewCourse, OneCourse
from mlmp_spawner.web.pages.home import Home, StartNow
from mlmp_spawner.web.pages.images import Images
from mlmp_spawner.web.pages.job import JobAction, LogFile, OneJob
from mlmp_spawner.web.pages.job_compare import CompareJobs
from mlmp_spawner.web.pages.jobs import Jobs
from mlmp_spawner.web.pages.notices import Notices
from mlmp_spawner.web.pages.preferences import Preferences, PreferencesAction
from mlmp_spawner.web.pages.scans import OneScan, ScanAction, Scans
from mlmp_spawner.web.pages.ssh import SSH
from mlmp_spawner.web.pages.timeline import Timeline
from mlmp_spawner.web.pages.usage import Usage


def routes() -> list[tuple[Any, ...]]:
    """The pages: patterns below the service's prefix, and their handlers."""
    return [
        (r"", Home),
        (r"start", StartNow),
        (r"book", Book),
        (r"timeline", Timeline),
        (r"usage", Usage),
        (r"ssh", SSH),
        (r"images", Images),
        (r"admin", Machines),
        (r"admin/machines/([A-Za-z0-9][A-Za-z0-9._-]*)", Machine),
        (r"admin/bookings", AllBookings),
        (r"admin/people", People),
        (r"admin/limits", LimitsOf),
        (r"admin/health", Health),
        (r"admin/audit", AuditLog),
        (r"admin/audit\.csv", AuditCsv),
        (r"notices", Notices),
        (r"preferences", Preferences),
        (r"preferences/(test|calendar|revoke)", PreferencesAction),
        (r"bookings", Bookings),
        (r"bookings/([a-z0-9]+)", One),
        (r"bookings/([a-z0-9]+)/change", Change),
        (r"bookings/([a-z0-9]+)/(start|extend|cancel|stop)", Action),
        (r"courses", Courses),
        (r"new-course", NewCourse),
        (r"courses/([a-z0-9-]+)", OneCourse),
        (r"courses/([a-z0-9-]+)/guests", CourseGuests),
        (r"courses/([a-z0-9-]+)/new-class", NewClass),
        (r"courses/([a-z0-9-]+)/classes/([a-z0-9]+)", OneClass),
        (r"courses/([a-z0-9-]+)/classes/([a-z0-9]+)/(extend|message|servers)", ClassAction),
        (r"courses/([a-z0-9-]+)/(settings|roster|remove)", CourseAction),
        (r"jobs", Jobs),
        (r"jobs/compare", CompareJobs),
        (r"jobs/([a-z0-9]+)", OneJob),
        (r"jobs/([a-z0-9]+)/log", LogFile),
        (r"jobs/([a-z0-9]+)/(cancel|resubmit)", JobAction),
        (r"scans", Scans),
        (r"scans/([a-z0-9]+)", OneScan),
        (r"scans/([a-z0-9]+)/(cancel|retry)", ScanAction),
    ]
