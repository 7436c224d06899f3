"""What the admin lets people choose besides the catalog: KubeSpawner's own ``profile_list``, within what is booked."""

from __future__ import annotations

from typing import Any

import pytest

from mlmp_spawner.errors import Invalid
from mlmp_spawner.spawners import choices
from mlmp_spawner.spawners.choices import Choice
from tests.spawners.pod_manifests import GPU, kubeconfig, made, manifest

__all__ = ["kubeconfig"]


class TestChoices:
    PROFILES: tuple[dict[str, Any], ...] = (
        {"display_name": "Plain", "slug": "plain"},
        {
            "display_name": "With options", "slug": "options",
            "profile_options": {
                "image": {
                    "choices": {
                        "new": {"kubespawner_override": {"image": "lab:2"}},
                        "old": {"kubespawner_override": {"image": "lab:1"}},
                    },
                    "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "{value}"}},
                },
                "tools": {"choices": {"all": {}, "few": {}}},
            },
        },
    )  # fmt: skip

    async def image(self, **options: Any) -> str:
        """The image that comes of a choice."""
        spawner = made({"profile_list": list(self.PROFILES)})
        spawner._choice, _ = choices.split(options)
        return str((await manifest(spawner))["spec"]["containers"][0]["image"])

    async def test_are_kubespawners_own(self) -> None:
        assert await self.image(kube_profile="options") == "lab:2"
        assert await self.image(kube_profile="options", kube_options={"image": "old"}) == "lab:1"
        assert await self.image(kube_profile="options", kube_options={"image--unlisted-choice": "mine:3"}) == "mine:3"

    async def test_do_not_mix_with_the_catalogs_profile(self) -> None:
        spawner = made({"profile_list": list(self.PROFILES)})
        spawner.user_options = {"profile": "gpu", "duration": "4h"}
        await manifest(spawner)
        assert spawner.user_options == {"profile": "gpu", "duration": "4h"}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"kube_profile": "plian"}, "did you mean 'plain'"),
            ({"kube_profile": 7}, "slug"),
            ({"kube_profile": "plain", "kube_options": {"image": "old"}}, "there is no 'image'"),
            ({"kube_profile": "options", "kube_options": {"image": "odl"}}, "did you mean 'old'"),
            ({"kube_profile": "options", "kube_options": {"tools--unlisted-choice": "x"}}, "only what is listed"),
            ({"kube_profile": "options", "kube_options": ["image"]}, "option"),
            ({"kube_options": {"image": ["old"]}}, "option"),
        ],
    )
    async def test_that_are_not_there_are_refused_with_those_that_are(
        self, options: dict[str, Any], said: str
    ) -> None:
        known = await made({"profile_list": list(self.PROFILES)})._profiles()
        with pytest.raises(Invalid, match=said):
            choices.check(choices.split(options)[0], known)

    def test_where_there_are_none_none_can_be_made(self) -> None:
        choices.check(Choice(), [])
        with pytest.raises(Invalid, match="no such choice"):
            choices.check(Choice("plain"), [])

    def test_come_out_of_the_form_with_the_options_of_the_chosen_profile_alone(self) -> None:
        form = {
            "kube_profile": ["options"], "kube_option:options:image": ["old"], "kube_option:plain:image": ["new"],
            "kube_option:options:tools--unlisted-choice": [""], "duration:gpu": ["3600s"],
        }  # fmt: skip
        ours, rest = choices.from_form(form)
        assert ours == {"kube_profile": "options", "kube_options": {"image": "old"}}
        assert rest == {"duration:gpu": ["3600s"]}

    async def test_are_part_of_our_form_not_instead_of_it(self) -> None:
        spawner = made({"profile_list": list(self.PROFILES)})
        form = {"kube_profile": ["plain"], "duration:gpu": ["3600s"], "_xsrf": ["x"]}
        assert spawner.run_options_from_form(form) == {"profile": "gpu", "duration": "3600s", "kube_profile": "plain"}
        assert spawner.options_form is not None
        assert "KubeSpawner" not in str(spawner.options_form)

    async def test_are_shown_in_the_form_without_trusting_what_they_are_called(self) -> None:
        hostile = {"display_name": "<script>alert(1)</script>", "slug": "x"}
        spawner = made({"profile_list": [hostile, *self.PROFILES]})
        html = spawner._render("profile_list.html", profiles=await spawner._profiles(), chosen=Choice("plain"))
        assert "<script>" not in html
        assert '<option value="plain" selected>' in html
        assert 'name="kube_option:options:image"' in html
        assert 'name="kube_option:options:image--unlisted-choice"' in html

    def test_what_they_try_beyond_is_listed_for_check(self) -> None:
        found = choices.beyond(
            [
                {"display_name": "Fine", "kubespawner_override": {"image": "x", "environment": {"A": "1"}}},
                {
                    "display_name": "Big",
                    "kubespawner_override": {"mem_limit": "1T", "extra_pod_config": {"hostPID": True}},
                },
                {
                    "display_name": "More",
                    "profile_options": {
                        "gpu": {"choices": {"8": {"kubespawner_override": {"extra_resource_limits": {GPU: "8"}}}}}
                    },
                },
            ]
        )
        assert [line.partition(" ")[0] for line in found] == ["Big:", "Big:", "More,"]
        assert "mem_limit: memory comes from the booking" in found[0]
        assert "hostPID" in found[1]
        assert found[2].startswith("More, gpu: 8: extra_resource_limits")
        assert choices.beyond([]) == []
