"""The triggers of :mod:`mlmp_spawner.store.triggers` for PostgreSQL.

Rows are checked at the end of the statement, when all of its rows are there. The functions turn sequential scans off
for themselves: a plan that was made while a table was small would otherwise be kept when it has grown.
"""

# The statements are made of constants alone.
# ruff: noqa: S608

from __future__ import annotations

from mlmp_spawner.rules.reservations import LONGEST

_OPTIONS = "LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off"

_BEYOND_ROOT = f"""
CREATE FUNCTION mlmp_beyond_root(of text, at_node text, of_resource text, since bigint, until bigint)
RETURNS boolean {_OPTIONS} AS $$
BEGIN
    RETURN coalesce(max(level), 0) > 0 FROM (
        SELECT sum(change) OVER (ORDER BY at) AS level FROM (
            SELECT greatest(a.start, since) AS at, a.units AS change FROM mlmp_allocation AS a
            WHERE a.root = of AND a.node = at_node AND a.resource = of_resource
              AND a.start < until AND a."end" > since
            UNION ALL SELECT a."end", -a.units FROM mlmp_allocation AS a
            WHERE a.root = of AND a.node = at_node AND a.resource = of_resource
              AND a.start < until AND a."end" > since AND a."end" < until
            UNION ALL SELECT greatest(a.start, since), -a.units FROM mlmp_allocation AS a
            WHERE a.reservation = of AND a.root IS NULL AND a.node = at_node AND a.resource = of_resource
              AND a.start < until AND a."end" > since
            UNION ALL SELECT a."end", a.units FROM mlmp_allocation AS a
            WHERE a.reservation = of AND a.root IS NULL AND a.node = at_node AND a.resource = of_resource
              AND a.start < until AND a."end" > since AND a."end" < until
        ) AS events
    ) AS levels;
END $$"""

_REFUSE = """
CREATE FUNCTION mlmp_refuse(reason text, node text, resource text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = 'mlmp:' || reason || ':' || node || ':' || resource, ERRCODE = 'check_violation';
END $$"""

_ALLOCATION = f"""
CREATE FUNCTION mlmp_allocation_check() RETURNS trigger {_OPTIONS} AS $$
DECLARE
    available integer;
    more boolean := true;      -- all of NEW is an increase
    kept_from bigint;          -- what of it was granted before, where it is not
    kept_until bigint;
BEGIN
    -- The lock. Two at once in order, so that two who move in opposite directions do not wait for each other.
    IF TG_OP = 'UPDATE' THEN
        more := (NEW.node, NEW.resource) <> (OLD.node, OLD.resource);
        IF more THEN
            PERFORM 1 FROM mlmp_capacity AS c
            WHERE (c.node, c.resource) IN ((OLD.node, OLD.resource), (NEW.node, NEW.resource))
            ORDER BY c.node, c.resource FOR UPDATE;
        END IF;
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND more) THEN
        UPDATE mlmp_capacity AS c SET version = version + 1 WHERE c.node = OLD.node AND c.resource = OLD.resource;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE mlmp_capacity AS c SET version = version + 1 WHERE c.node = NEW.node AND c.resource = NEW.resource
        RETURNING c.units INTO available;
    END IF;

    IF TG_OP <> 'INSERT' AND OLD.root IS NULL AND (
        TG_OP = 'DELETE' OR more OR NEW.units < OLD.units OR NEW.start > OLD.start OR NEW."end" < OLD."end"
    ) AND mlmp_beyond_root(OLD.reservation, OLD.node, OLD.resource, OLD.start, OLD."end") THEN
        PERFORM mlmp_refuse('root', OLD.node, OLD.resource);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN NULL;
    END IF;

    IF TG_OP = 'UPDATE' THEN
        IF NOT more AND NEW.units <= OLD.units THEN
            IF NEW.start >= OLD.start AND NEW."end" <= OLD."end" THEN
                RETURN NULL;  -- nothing is added
            END IF;
            kept_from := OLD.start;
            kept_until := OLD."end";
        END IF;
    END IF;

    IF NEW.root IS NOT NULL THEN
        IF available IS NULL THEN
            PERFORM mlmp_refuse('capacity', NEW.node, NEW.resource);
        END IF;
        IF mlmp_beyond_root(NEW.root, NEW.node, NEW.resource, NEW.start, NEW."end") THEN
            PERFORM mlmp_refuse('root', NEW.node, NEW.resource);
        END IF;
        RETURN NULL;
    END IF;

    IF EXISTS (
        SELECT 1 FROM mlmp_outage AS o WHERE o.node = NEW.node AND o.start < NEW."end" AND o."end" > NEW.start
          AND (
            kept_from IS NULL
            OR (NEW.start < kept_from AND o.start < kept_from)
            OR (NEW."end" > kept_until AND o."end" > kept_until)
          )
    ) THEN
        PERFORM mlmp_refuse('outage', NEW.node, NEW.resource);
    END IF;

    IF (
        SELECT max(level) FROM (
            SELECT at, sum(change) OVER (ORDER BY at) AS level FROM (
                SELECT greatest(a.start, NEW.start) AS at, a.units AS change FROM mlmp_allocation AS a
                WHERE a.node = NEW.node AND a.resource = NEW.resource AND a.start > NEW.start - {LONGEST}
                  AND a.start < NEW."end" AND a."end" > NEW.start AND a.root IS NULL
                UNION ALL SELECT a."end", -a.units FROM mlmp_allocation AS a
                WHERE a.node = NEW.node AND a.resource = NEW.resource AND a.start > NEW.start - {LONGEST}
                  AND a.start < NEW."end" AND a."end" > NEW.start AND a."end" < NEW."end" AND a.root IS NULL
                UNION ALL SELECT kept_until, 0 WHERE kept_until > NEW.start AND kept_until < NEW."end"
            ) AS events
        ) AS levels WHERE kept_from IS NULL OR at < kept_from OR at >= kept_until
    ) > coalesce(available, 0) THEN
        PERFORM mlmp_refuse('capacity', NEW.node, NEW.resource);
    END IF;
    RETURN NULL;
END $$"""

_IMMUTABLE = f"""
CREATE FUNCTION mlmp_allocation_immutable() RETURNS trigger {_OPTIONS} AS $$
BEGIN
    PERFORM mlmp_refuse('immutable', OLD.node, OLD.resource);
    RETURN NULL;
END $$"""

_OUTAGE = f"""
CREATE FUNCTION mlmp_outage_check() RETURNS trigger {_OPTIONS} AS $$
BEGIN
    PERFORM 1 FROM mlmp_capacity AS c WHERE c.node = NEW.node ORDER BY c.resource FOR UPDATE;
    UPDATE mlmp_capacity AS c SET version = version + 1 WHERE c.node = NEW.node;
    RETURN NULL;
END $$"""

_CAPACITY = f"""
CREATE FUNCTION mlmp_capacity_version() RETURNS trigger {_OPTIONS} AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$"""

_CHANGED = """(OLD.id, OLD.reservation, OLD.root) IS DISTINCT FROM (NEW.id, NEW.reservation, NEW.root)"""

CREATE = (
    _REFUSE,
    _BEYOND_ROOT,
    _ALLOCATION,
    _IMMUTABLE,
    _OUTAGE,
    _CAPACITY,
    "CREATE TRIGGER mlmp_allocation_check AFTER INSERT OR UPDATE OR DELETE ON mlmp_allocation "
    "FOR EACH ROW EXECUTE FUNCTION mlmp_allocation_check()",
    "CREATE TRIGGER mlmp_allocation_immutable BEFORE UPDATE ON mlmp_allocation "
    f"FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION mlmp_allocation_immutable()",
    "CREATE TRIGGER mlmp_outage_check AFTER INSERT OR UPDATE ON mlmp_outage "
    "FOR EACH ROW EXECUTE FUNCTION mlmp_outage_check()",
    "CREATE TRIGGER mlmp_capacity_version BEFORE UPDATE OF units ON mlmp_capacity "
    "FOR EACH ROW EXECUTE FUNCTION mlmp_capacity_version()",
)

DROP = (
    "DROP TRIGGER IF EXISTS mlmp_allocation_check ON mlmp_allocation",
    "DROP TRIGGER IF EXISTS mlmp_allocation_immutable ON mlmp_allocation",
    "DROP TRIGGER IF EXISTS mlmp_outage_check ON mlmp_outage",
    "DROP TRIGGER IF EXISTS mlmp_capacity_version ON mlmp_capacity",
    "DROP FUNCTION IF EXISTS mlmp_allocation_check, mlmp_allocation_immutable, mlmp_outage_check, "
    "mlmp_capacity_version, mlmp_beyond_root, mlmp_refuse",
)
