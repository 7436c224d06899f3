"""Who teaches restarts and stops servers on a real hub, and lets the class go on."""

from __future__ import annotations

from mlmp_spawner.units import MINUTE, from_iso
from tests.live import Person, Site, wait_for
from tests.operations.courses.test_class_hub import all_up, begun, people, site, teacher

__all__ = ["site", "teacher"]


def test_a_server_is_restarted_and_stopped_and_its_end_moves_with_the_class(site: Site, teacher: Person):
    path = begun(teacher, "ml", "15m", "ann", "zoe")
    wait_for(lambda: all_up(teacher, path, {"ann", "zoe"}), 60, "the start of all servers")
    before = {record.owner: record for record in site.servers()}
    asked = teacher.api.post(f"{path}/servers", json={"what": "restart", "people": ["ann"]})
    assert (asked.status_code, asked.json()) == (202, {"people": ["ann"]})

    def again() -> bool:
        now = {record.owner: record for record in site.servers()}
        return "ann" in now and now["ann"] != before["ann"] and people(teacher, path)["ann"]["status"] == "ready"

    wait_for(again, 60, "that her server was started again")
    assert {record.owner: record for record in site.servers()}["zoe"] == before["zoe"], "hers goes on"
    assert teacher.api.post(f"{path}/servers", json={"what": "stop", "people": ["ann"]}).status_code == 202
    wait_for(lambda: {record.owner for record in site.servers()} == {"zoe"}, 60, "the end of her server")
    wait_for(lambda: people(teacher, path)["ann"]["status"] == "down", 30, "that it is seen")
    end = from_iso(teacher.api.get(path).json()["end"])
    longer = teacher.api.post(f"{path}/extend", json={"duration": "15m"})
    assert longer.status_code == 200 and from_iso(longer.json()["end"]) == end + 15 * MINUTE, longer.text
    assert longer.json()["people"] == ["ann", "zoe"]
    assert teacher.api.delete(path).status_code == 200
    wait_for(lambda: not site.servers(), 60, "the end of all servers")
