"""Images: which is on which node, and having one there before a course begins."""

from __future__ import annotations

from mlmp_spawner.errors import Invalid, MLMPError
from mlmp_spawner.operations import image_states
from mlmp_spawner.units import MINUTE, SECOND
from mlmp_spawner.web.api.images import preloading
from mlmp_spawner.web.auth import Right
from mlmp_spawner.web.pages.base import Page

SOON, LATER = 3 * SECOND, MINUTE
"""When the page looks again: while something is pulled, and else."""


class Images(Page):
    """Every image of the catalog on every node."""

    right: Right = "courses"
    here = "images"

    async def get(self) -> None:
        """Shows them."""
        preloading(self.context)
        await self.show()

    async def post(self) -> None:
        """Has an image pulled, or ends that."""
        image, node, step = self.field("image"), self.field("node"), self.field("step")
        nodes = [node] if node else None
        images = preloading(self.context)
        try:
            if step == "preload":
                await images.ask(image, nodes, asked_by=self.me.name)
            elif step == "cancel":
                await images.cancel(image, nodes, asked_by=self.me.name)
            else:
                raise Invalid.field("step", "valid: preload, cancel")
        except MLMPError as error:
            await self.refuse(error)
            return
        self.go("images")

    async def show(self, *, problem: MLMPError | None = None) -> None:
        """The matrix."""
        look = preloading(self.context).last
        found = image_states.states(self.site, look)
        busy = any(one.state in ("queued", "pulling") for image in found for one in image.nodes)
        live = await self.live()
        following = self.now + (SOON if busy else LATER)
        live["next"] = min(following, live["next"] or following)
        self.render_page(
            "images.html",
            look=look,
            images=found,
            nodes=[(name, image_states.away(look, name)) for name in sorted(self.site.catalog.nodes)],
            problem=problem.problem() if problem else None,
            **live,
        )
