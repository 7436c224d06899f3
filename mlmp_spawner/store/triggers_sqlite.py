"""The triggers of :mod:`mlmp_spawner.store.triggers` for SQLite. Its one writer is the lock.

A refusal carries no node: ``RAISE`` takes nothing but a literal. Rows are checked one by one, so a single UPDATE that
swaps two bookings may be refused: delete and insert instead.
"""

# The statements are made of constants alone.
# ruff: noqa: S608

from __future__ import annotations

from mlmp_spawner.rules.reservations import LONGEST

_ALLOCATION, _CAPACITY, _OUTAGE = "mlmp_allocation", "mlmp_capacity", "mlmp_outage"

_SAME_PLACE = "NEW.node = OLD.node AND NEW.resource = OLD.resource"
_MORE = f"(NOT ({_SAME_PLACE}) OR NEW.units > OLD.units)"
_WIDER = '(NEW.start < OLD.start OR NEW."end" > OLD."end")'
_LESS = f'(NOT ({_SAME_PLACE}) OR NEW.units < OLD.units OR NEW.start > OLD.start OR NEW."end" < OLD."end")'


def _refuse(reason: str, condition: str) -> str:
    return f"SELECT RAISE(ABORT, 'mlmp:{reason}:') WHERE {condition};"


def _bump(row: str) -> str:
    return f"UPDATE {_CAPACITY} SET version = version + 1 WHERE node = {row}.node AND resource = {row}.resource;"


def _capacity(region: str = "true", extra: str = "") -> str:
    """Refuses NEW where, at an instant of ``region``, more is taken than there is."""
    others = f"""FROM {_ALLOCATION} AS a INDEXED BY mlmp_allocation_range
        WHERE a.node = NEW.node AND a.resource = NEW.resource
          AND a.start > NEW.start - {LONGEST} AND a.start < NEW."end"
          AND a."end" > NEW.start AND a.root IS NULL"""
    return _refuse(
        "capacity",
        f"""(
        SELECT max(level) FROM (
            SELECT at, sum(change) OVER (ORDER BY at) AS level FROM (
                SELECT max(a.start, NEW.start) AS at, a.units AS change {others}
                UNION ALL SELECT a."end", -a.units {others} AND a."end" < NEW."end"
                {extra}
            )
        ) WHERE {region}
    ) > coalesce((SELECT units FROM {_CAPACITY} WHERE node = NEW.node AND resource = NEW.resource), 0)""",
    )


def _outage(since: str = "NEW.start", until: str = 'NEW."end"') -> str:
    return _refuse(
        "outage",
        f"""EXISTS (
        SELECT 1 FROM {_OUTAGE} AS o WHERE o.node = NEW.node AND o.start < {until} AND o."end" > {since}
          AND {since} < {until}
    )""",
    )


def _within_root(root: str, row: str) -> str:
    """Refuses where, within ``row``, the children of ``root`` take more than it has there."""

    def part(which: str, sign: str, back: str) -> str:
        rows = f"""FROM {_ALLOCATION} AS a WHERE {which} AND +a.node = {row}.node AND +a.resource = {row}.resource
            AND +a.start < {row}."end" AND a."end" > {row}.start"""
        return f"""SELECT max(a.start, {row}.start) AS at, {sign}a.units AS change {rows}
            UNION ALL SELECT a."end", {back}a.units {rows} AND a."end" < {row}."end\""""

    return _refuse(
        "root",
        f"""(
        SELECT max(level) FROM (
            SELECT sum(change) OVER (ORDER BY at) AS level FROM (
                {part(f"a.root = {root}", "+", "-")}
                UNION ALL {part(f"a.reservation = {root} AND a.root IS NULL", "-", "+")}
            )
        )
    ) > 0""",
    )


_NO_NODE = _refuse(
    "capacity", f"NOT EXISTS (SELECT 1 FROM {_CAPACITY} WHERE node = NEW.node AND resource = NEW.resource)"
)
_TYPES = _refuse("type", "typeof(NEW.units) || typeof(NEW.start) || typeof(NEW.\"end\") <> 'integerintegerinteger'")
# The part of NEW that OLD did not have: the rest was granted before, and stays so when capacity is lost.
_ADDED = '(at < OLD.start OR at >= OLD."end")'
_AT_OLD_END = 'UNION ALL SELECT OLD."end", 0 WHERE OLD."end" > NEW.start AND OLD."end" < NEW."end"'
_CHANGED = "OLD.id IS NOT NEW.id OR OLD.reservation IS NOT NEW.reservation OR OLD.root IS NOT NEW.root"

_TRIGGERS: dict[str, tuple[str, str]] = {
    # name: (when it fires, what it does)
    "allocation_immutable": (f"BEFORE UPDATE ON {_ALLOCATION} WHEN {_CHANGED}", _refuse("immutable", "true")),
    # INSERT OR REPLACE would delete a row without a trigger noticing.
    "allocation_replace": (
        f"BEFORE INSERT ON {_ALLOCATION} WHEN EXISTS (SELECT 1 FROM {_ALLOCATION} WHERE id = NEW.id)",
        _refuse("immutable", "true"),
    ),
    "allocation_insert": (f"AFTER INSERT ON {_ALLOCATION}", _bump("NEW") + _TYPES),
    "allocation_insert_root": (
        f"AFTER INSERT ON {_ALLOCATION} WHEN NEW.root IS NULL",
        _outage() + _capacity(),
    ),
    "allocation_insert_child": (
        f"AFTER INSERT ON {_ALLOCATION} WHEN NEW.root IS NOT NULL",
        _NO_NODE + _within_root("NEW.root", "NEW"),
    ),
    "allocation_update": (f"AFTER UPDATE ON {_ALLOCATION}", _bump("NEW") + _TYPES),
    "allocation_leave": (f"AFTER UPDATE ON {_ALLOCATION} WHEN NOT ({_SAME_PLACE})", _bump("OLD")),
    "allocation_raise_root": (
        f"AFTER UPDATE ON {_ALLOCATION} WHEN NEW.root IS NULL AND {_MORE}",
        _outage() + _capacity(),
    ),
    "allocation_widen_root": (
        f"AFTER UPDATE ON {_ALLOCATION} WHEN NEW.root IS NULL AND NOT {_MORE} AND {_WIDER}",
        _outage(until='min(NEW."end", OLD.start)')
        + _outage(since='max(NEW.start, OLD."end")')
        + _capacity(_ADDED, _AT_OLD_END),
    ),
    "allocation_update_child": (
        f"AFTER UPDATE ON {_ALLOCATION} WHEN NEW.root IS NOT NULL AND ({_MORE} OR {_WIDER})",
        _NO_NODE + _within_root("NEW.root", "NEW"),
    ),
    "allocation_lessen_root": (
        f"AFTER UPDATE ON {_ALLOCATION} WHEN OLD.root IS NULL AND {_LESS}",
        _within_root("OLD.reservation", "OLD"),
    ),
    "allocation_delete": (f"AFTER DELETE ON {_ALLOCATION}", _bump("OLD")),
    "allocation_delete_root": (
        f"AFTER DELETE ON {_ALLOCATION} WHEN OLD.root IS NULL",
        _within_root("OLD.reservation", "OLD"),
    ),
    "outage_insert": (
        f"AFTER INSERT ON {_OUTAGE}",
        f"UPDATE {_CAPACITY} SET version = version + 1 WHERE node = NEW.node;",
    ),
    "outage_update": (
        f"AFTER UPDATE ON {_OUTAGE}",
        f"UPDATE {_CAPACITY} SET version = version + 1 WHERE node = NEW.node;",
    ),
    "capacity_insert": (f"AFTER INSERT ON {_CAPACITY}", _refuse("type", "typeof(NEW.units) <> 'integer'")),
    "capacity_update": (
        f"AFTER UPDATE OF units ON {_CAPACITY}",
        _bump("NEW") + _refuse("type", "typeof(NEW.units) <> 'integer'"),
    ),
}

CREATE = tuple(f"CREATE TRIGGER mlmp_{name} {when} BEGIN {body} END" for name, (when, body) in _TRIGGERS.items())
DROP = tuple(f"DROP TRIGGER IF EXISTS mlmp_{name}" for name in _TRIGGERS)
