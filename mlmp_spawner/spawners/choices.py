"""KubeSpawner's ``profile_list`` beside a catalog: what a user chooses in it, and what it may not do.

KubeSpawner reads the choice from ``user_options`` under ``profile`` and the names of the options; ``profile`` is the
catalog's here, so the choice has keys of its own. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlmp_spawner.errors import Invalid
from mlmp_spawner.kube.confinement import SERVER, Granted, Terms, confine
from mlmp_spawner.rules.values import choices

PROFILE, OPTIONS = "kube_profile", "kube_options"
"""The keys in ``user_options``: the slug of a profile, and ``{option: choice}``, also ``OPTION--unlisted-choice``."""
FIELD = "kube_option:"
"""In the form: ``kube_option:SLUG:OPTION``."""
UNLISTED = "--unlisted-choice"

_BY_THE_BOOKING = {
    "cpu_limit": "cores come from the booking",
    "cpu_guarantee": "cores come from the booking",
    "mem_limit": "memory comes from the booking",
    "mem_guarantee": "memory comes from the booking",
    "extra_resource_limits": "units come from the booking",
    "extra_resource_guarantees": "units come from the booking",
    "priority_class_name": "only c.KubeSpawner.priority_class_name says it",
    "namespace": "c.MLMP.namespace says it",
    "component_label": "the hub finds its pods by it",
    "enable_user_namespaces": "c.MLMP.namespace says where pods are",
    "automount_service_account_token": "no user's pod gets a token of the cluster",
    "privileged": "it would see every unit of the node",
}

Profiles = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen: a profile by its slug ("" for the first or default one), and its options."""

    profile: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def as_kubespawner_reads_it(self) -> dict[str, str]:
        """The ``user_options`` of KubeSpawner."""
        return {"profile": self.profile, **self.options} if self.profile else dict(self.options)


def from_form(form: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:
    """The choice in a form as ``user_options``, and what else the form has."""
    ours = {name: values for name, values in form.items() if name == PROFILE or name.startswith(FIELD)}
    rest = {name: values for name, values in form.items() if name not in ours}
    slug = str(ours.get(PROFILE, [""])[0])
    options = {}
    for name, values in ours.items():
        of, _, option = name.removeprefix(FIELD).partition(":")
        if name != PROFILE and of == slug and option and values and values[0]:
            options[option] = str(values[0])
    return ({PROFILE: slug} if slug else {}) | ({OPTIONS: options} if options else {}), rest


def split(given: object) -> tuple[Choice, object]:
    """The choice in ``user_options``, and the other options.

    :raises Invalid: it is no choice.
    """
    if not isinstance(given, Mapping):
        return Choice(), given
    rest = {name: value for name, value in given.items() if name not in (PROFILE, OPTIONS)}
    slug, options = given.get(PROFILE) or "", given.get(OPTIONS) or {}
    if not isinstance(slug, str):
        raise Invalid.field(PROFILE, "write the slug of a profile")
    if not isinstance(options, Mapping) or not all(isinstance(one, str) for pair in options.items() for one in pair):
        raise Invalid.field(OPTIONS, 'write {"option": "choice"}')
    return Choice(slug, dict(options)), rest


def check(choice: Choice, profiles: Profiles) -> None:
    """Whether there is what was chosen.

    :param profiles: as KubeSpawner has completed them.
    :raises Invalid: listing what there is.
    """
    if not profiles:
        if choice.profile or choice.options:
            raise Invalid.field(PROFILE, "this hub has no such choice")
        return
    slugs = [str(profile["slug"]) for profile in profiles]
    if choice.profile and choice.profile not in slugs:
        raise Invalid.field(PROFILE, f"there is no {choice.profile[:60]!r}; {choices(choice.profile, slugs)}")
    chosen = next(one for one in profiles if (one["slug"] == choice.profile if choice.profile else one.get("default")))
    known = chosen.get("profile_options") or {}
    for name, value in choice.options.items():
        option = known.get(name.removesuffix(UNLISTED))
        if option is None:
            raise Invalid.field(OPTIONS, f"there is no {name[:60]!r}; {choices(name, known)}")
        if name.endswith(UNLISTED):
            if not (option.get("unlisted_choice") or {}).get("enabled"):
                raise Invalid.field(
                    f"{OPTIONS}.{name[:60]}", f"only what is listed; {choices('', option.get('choices') or {})}"
                )
        elif value not in (option.get("choices") or {}):
            raise Invalid.field(
                f"{OPTIONS}.{name}", f"there is no {value[:60]!r}; {choices(value, option.get('choices') or {})}"
            )


def beyond(profile_list: Profiles) -> list[str]:
    """What profiles of a ``profile_list`` ask for beyond what a booking gives; none of it is ever applied.

    Values that are computed (callables) are seen only when a server starts, and are in the hub's log then.
    """
    found = []
    for profile in profile_list:
        title = str(profile.get("display_name") or profile.get("slug") or "?")
        found += _beyond(title, profile.get("kubespawner_override") or {})
        for name, option in (profile.get("profile_options") or {}).items():
            for key, choice in (option.get("choices") or {}).items():
                found += _beyond(f"{title}, {name}: {key}", choice.get("kubespawner_override") or {})
            found += _beyond(
                f"{title}, {name}", (option.get("unlisted_choice") or {}).get("kubespawner_override") or {}
            )
    return found


def _beyond(where: str, override: Mapping[str, Any]) -> list[str]:
    """What one ``kubespawner_override`` asks for: single traits, and what the pod made of the others would."""
    known = [f"{name}: {why}" for name, why in _BY_THE_BOOKING.items() if override.get(name)]
    server = {"name": SERVER, **_mapping(override.get("extra_container_config"))}
    server["env"] = [{"name": key, "value": value} for key, value in _mapping(override.get("environment")).items()]
    pod = _mapping(override.get("extra_pod_config"))
    spec = {
        **pod,
        "containers": [server, *_mappings(override.get("extra_containers")), *_mappings(pod.get("containers"))],
        "initContainers": [*_mappings(override.get("init_containers")), *_mappings(pod.get("initContainers"))],
        "volumes": [*_mappings(override.get("volumes")), *_mappings(pod.get("volumes"))],
    }
    terms = Terms("", "", "", {}, {}, {}, {}, {}, {}, live_for=-1, grace=1, granted=Granted())
    return [f"{where}: {what}" for what in known + confine({"spec": spec}, terms)[1]]


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    """A list of objects, as KubeSpawner takes it: a list, or an object with any keys."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [dict(item) for item in items if isinstance(item, Mapping)]
