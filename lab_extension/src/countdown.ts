// `gpu · 1 h 12 min left` in the status bar; pressed, it offers more time.
import { CommandRegistry } from "@lumino/commands";
import { Menu, Widget } from "@lumino/widgets";
import { BookingModel } from "./booking";
import { clock, left, SECOND, steps, warnings } from "./time";

export const EXTEND = "mlmp:extend";

export class Countdown extends Widget {
  private button = document.createElement("button");
  private ticking: number;

  constructor(
    private model: BookingModel,
    private commands: CommandRegistry,
  ) {
    super();
    this.addClass("jp-mod-highlighted");
    this.button.type = "button";
    this.button.className = "mlmp-countdown";
    this.button.setAttribute("aria-haspopup", "menu");
    this.button.setAttribute("aria-expanded", "false");
    this.button.addEventListener("click", () => this.offer());
    this.node.append(this.button);
    model.changed.connect(this.render, this);
    this.ticking = window.setInterval(() => this.render(), SECOND);
    this.render();
  }

  dispose(): void {
    window.clearInterval(this.ticking);
    this.model.changed.disconnect(this.render, this);
    super.dispose();
  }

  private render(): void {
    const { booking, left: ms, trouble, now } = this.model;
    this.setHidden(!booking && !trouble);
    if (!booking || ms === null) {
      this.write("MLMP: not connected", trouble, "");
      return;
    }
    const [first, last] = warnings(booking.stops_at - booking.start);
    const near = ms <= last ? "now" : ms <= first ? "soon" : "";
    const over = booking.state === "ended" || ms <= 0;
    const what = `${booking.units > 1 ? `${booking.units} × ` : ""}${booking.profile}`;
    const text = `${what} · ${over ? "ends now" : `${left(ms)} left`}${trouble ? " (not connected)" : ""}`;
    const until = `Until ${clock(booking.stops_at, now)}`;
    this.write(text, trouble ? `${until}. ${trouble}` : `${until}. Press to extend.`, near);
  }

  private write(text: string, title: string, near: string): void {
    if (this.button.textContent !== text) this.button.textContent = text;
    if (this.button.title !== title) this.button.title = title;
    this.button.dataset.near = near;
  }

  private offer(): void {
    const booking = this.model.booking;
    if (!booking) return;
    const menu = new Menu({ commands: this.commands });
    menu.title.label = "Extend";
    for (const { duration } of steps(booking.stops_at - booking.start)) {
      menu.addItem({ command: EXTEND, args: { duration } });
    }
    menu.aboutToClose.connect(() => {
      this.button.setAttribute("aria-expanded", "false");
      requestAnimationFrame(() => this.button.focus()); // once the menu is gone
    });
    const at = this.button.getBoundingClientRect();
    this.button.setAttribute("aria-expanded", "true");
    menu.open(at.left, at.top, { forceY: false });
    menu.activeIndex = 0;
  }
}
