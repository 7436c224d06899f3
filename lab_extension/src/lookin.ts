// Who may look into this server, and who does: seen all the time, and ended by one click.
import { Notification, showErrorMessage } from "@jupyterlab/apputils";
import { PageConfig, URLExt } from "@jupyterlab/coreutils";
import { Widget } from "@lumino/widgets";
import { ask } from "./api";
import { BookingModel } from "./booking";
import { clock } from "./time";

export const AGREE = "mlmp:agree-to-look-in";
const SOMEBODY = "Who teaches"; // guests see no names

/** The page of MLMP on which somebody agrees: whatever runs in this server could do it by a click in here. */
export function agreePage(model: BookingModel): string {
  const hub = PageConfig.getOption("hubPrefix").replace(/hub\/$/, "");
  const path = URLExt.join(hub || "/", "services/mlmp/bookings", model.booking?.id ?? "");
  return `${PageConfig.getOption("hubHost")}${path}`;
}

export class LookedInto extends Widget {
  private button = document.createElement("button");
  private told = new Set<string>();

  constructor(private model: BookingModel) {
    super();
    this.addClass("jp-mod-highlighted");
    this.button.type = "button";
    this.button.className = "mlmp-looked-into";
    this.button.addEventListener("click", () => void this.end());
    this.node.append(this.button);
    model.changed.connect(this.render, this);
    this.render();
  }

  dispose(): void {
    this.model.changed.disconnect(this.render, this);
    super.dispose();
  }

  private render(): void {
    const found = this.model.lookIn;
    this.setHidden(!found?.agreed_at);
    if (!found?.agreed_at) {
      this.told.clear();
      return;
    }
    const { now } = this.model;
    const inside = found.looking.map((one) => one.name || SOMEBODY);
    const may = found.teachers.join(", ") || SOMEBODY;
    const text = inside.length ? `${inside.join(", ")} is let in` : `${may} may look in`;
    if (this.button.textContent !== text) this.button.textContent = text;
    this.button.title = `Since ${clock(found.agreed_at, now)} ${may} may see and do all that you can here. Press to let nobody look in any more.`;
    this.button.dataset.near = inside.length ? "soon" : "";
    for (const { name, since } of found.looking) {
      if (this.told.has(`${name} ${since}`)) continue;
      this.told.add(`${name} ${since}`);
      Notification.warning(`${name || SOMEBODY} is let into this server since ${clock(since, now)}.`, {
        autoClose: false,
        actions: [{ label: "Let Nobody Look In", callback: () => void this.end() }],
      });
    }
  }

  private async end(): Promise<void> {
    try {
      await ask("look-in", "DELETE");
      Notification.success("Nobody can look into this server any more.", { autoClose: 5000 });
    } catch (error) {
      await showErrorMessage("It is not ended", error as Error);
    }
    await this.model.refresh();
  }
}
