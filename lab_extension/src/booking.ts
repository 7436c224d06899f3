// The booking that this server runs in, looked at again and again; it goes on from what was last known while nobody
// answers.
import { Poll } from "@lumino/polling";
import { Signal } from "@lumino/signaling";
import { Absent, ask, Booking, Message, Refused, State } from "./api";

const EVERY = 15_000;
const LONGEST_PAUSE = 30_000;
// The pause grows up to `max` while nobody answers, and is the usual one again afterwards.
const USUAL = { interval: EVERY, max: LONGEST_PAUSE, backoff: true };
const SELDOM = 300_000; // where there was never an MLMP

export class BookingModel {
  readonly changed = new Signal<this, void>(this);
  booking: Booking | null = null;
  /** What who teaches said, and was not read yet. */
  messages: Message[] = [];
  /** Why what is shown may be old; empty while all is well. */
  trouble = "";
  private ahead = 0;
  private known = false;
  private poll: Poll;

  constructor() {
    this.poll = new Poll({
      name: "mlmp:booking",
      factory: () => this.look(),
      frequency: USUAL,
      standby: "never", // what is open in a tab that nobody looks at is saved in time, too
    });
    document.addEventListener("visibilitychange", () => document.hidden || void this.poll.refresh());
    addEventListener("online", () => void this.poll.refresh());
  }

  /** The time as the server has it, in ms UTC: this machine's clock may be wrong. */
  get now(): number {
    return Date.now() + this.ahead;
  }

  /** What is left until the stop begins, in ms; null without a booking. */
  get left(): number | null {
    return this.booking && this.booking.stops_at - this.now;
  }

  /** @throws Refused, Away */
  async extend(duration: string): Promise<Booking | null> {
    this.take(await ask<State>("extend", "POST", { duration }));
    return this.booking;
  }

  private async look(): Promise<void> {
    try {
      this.take(await ask<State>("state"));
    } catch (error) {
      if (error instanceof Absent && !this.known) {
        this.poll.frequency = { interval: SELDOM, max: SELDOM, backoff: false };
        return;
      }
      // Of what was there before, a proxy says for a moment that it is not.
      this.trouble = error instanceof Refused ? error.message : "No connection to MLMP; trying again.";
      this.changed.emit();
      throw error; // for the back-off
    }
  }

  private take(found: State): void {
    if (!this.known) this.poll.frequency = USUAL;
    this.known = true;
    this.ahead = found.now - Date.now();
    this.booking = found.booking;
    this.messages = found.messages ?? this.messages;
    this.trouble = "";
    this.changed.emit();
  }
}
