"""The bill of materials of an image."""

from __future__ import annotations

from images import sbom

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u13
Description: GNU C Library
 Version: not this one

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: perl-base
Status: install ok installed
Architecture: amd64
Version: 2:5.36.0-7

"""


def test_installed_debian_packages_are_components_and_removed_ones_are_not():
    components = list(sbom.debian(STATUS))
    assert [(part["name"], part["version"]) for part in components] == [
        ("libc6", "2.36-9+deb12u13"),
        ("perl-base", "2:5.36.0-7"),
    ]
    assert components[0]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64"
    assert components[1]["purl"] == "pkg:deb/debian/perl-base@2%3A5.36.0-7?arch=amd64"


def test_parts_of_other_tools_are_joined_without_their_roots():
    part = {
        "components": [{"type": "library", "name": "tornado", "version": "6.6.1", "bom-ref": "tornado==6.6.1"}],
        "dependencies": [{"ref": "tornado==6.6.1"}, {"ref": "root-component", "dependsOn": ["tornado==6.6.1"]}],
    }
    document = sbom.bill("mlmp/hub", STATUS, [part])
    assert [component["name"] for component in document["components"]] == ["libc6", "perl-base", "tornado"]
    assert document["dependencies"] == [{"ref": "tornado==6.6.1"}]
    assert document["metadata"]["component"]["name"] == "mlmp/hub"


def test_the_same_image_has_the_same_bill():
    assert sbom.bill("mlmp/hub", STATUS, []) == sbom.bill("mlmp/hub", STATUS, [])
    assert not {"serialNumber"} & sbom.bill("mlmp/hub", STATUS, []).keys()
