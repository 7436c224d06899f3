// Before the end: a word first, then everything is saved and a dialog says so.
import { JupyterFrontEnd } from "@jupyterlab/application";
import { Dialog, Notification, showErrorMessage } from "@jupyterlab/apputils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import { DocumentRegistry } from "@jupyterlab/docregistry";
import { Widget } from "@lumino/widgets";
import { BookingModel } from "./booking";
import { clock, left, steps, warnings } from "./time";

const LONGEST_SAVE = 20_000;

export interface Saved {
  saved: string[];
  failed: string[];
}

/** Saves what has changes, each file once. */
export async function saveAll(app: JupyterFrontEnd, documents: IDocumentManager): Promise<Saved> {
  const contexts = new Set<DocumentRegistry.Context>();
  for (const widget of app.shell.widgets("main")) {
    const context = documents.contextForWidget(widget);
    if (context?.model.dirty && !context.model.readOnly) contexts.add(context);
  }
  const done: Saved = { saved: [], failed: [] };
  await Promise.all(
    [...contexts].map(async (context) => {
      // Where a file was changed elsewhere, Lab asks what to do: that is waited for no longer than this.
      const late = new Promise((_, no) => setTimeout(() => no(new Error("late")), LONGEST_SAVE));
      await Promise.race([context.save(), late]).catch(() => undefined);
      (context.model.dirty ? done.failed : done.saved).push(context.path);
    }),
  );
  return done;
}

/** What was saved, in words. */
export function told({ saved, failed }: Saved): string {
  const parts = [];
  if (failed.length) parts.push(`Not saved: ${failed.join(", ")}. Save by hand, or download.`);
  if (saved.length) parts.push(`Saved: ${saved.join(", ")}.`);
  return parts.join(" ") || "There is nothing that is not saved.";
}

/** Warns twice before the stop, and saves at the last warning; once more after the booking was extended. */
export function watchEnd(
  model: BookingModel,
  app: JupyterFrontEnd,
  documents: IDocumentManager,
  extend: (duration: string) => Promise<boolean>,
): void {
  let dialog: Dialog<unknown> | null = null;
  let note = "";
  const told_of = { first: 0, last: 0 }; // of which stop was told already

  const save = async (): Promise<void> => {
    const done = await saveAll(app, documents);
    if (done.failed.length) await showErrorMessage("Not everything is saved", told(done));
    else Notification.success(told(done), { autoClose: 5000 });
  };

  const look = (): void => {
    const { booking, left: ms } = model;
    if (!booking || ms === null) return;
    const [first, last] = warnings(booking.stops_at - booking.start);
    if (dialog && ms > last) dialog.reject(); // it was extended meanwhile
    if (note && ms > first) note = (Notification.dismiss(note), "");
    if (ms <= 0 || ms > first) return;
    if (ms <= last) {
      if (told_of.last === booking.stops_at) return;
      told_of.first = told_of.last = booking.stops_at;
      if (note) note = (Notification.dismiss(note), "");
      if (Dialog.tracker.size) note = warn(ms); // ours comes only when that one is closed
      void last_warning();
    } else if (told_of.first !== booking.stops_at) {
      told_of.first = booking.stops_at;
      note = warn(ms);
    }
  };

  const warn = (ms: number): string => {
    const { booking, now } = model;
    const [step] = steps(booking!.stops_at - booking!.start);
    return Notification.warning(`This server stops at ${clock(booking!.stops_at, now)}, in ${left(ms)}.`, {
      autoClose: false,
      actions: [
        { label: `Extend by ${step.label}`, callback: () => void extend(step.duration) },
        { label: "Save all", callback: () => void save() },
      ],
    });
  };

  const last_warning = async (): Promise<void> => {
    const { booking, now } = model;
    const [step] = steps(booking!.stops_at - booking!.start);
    const body = new Ending(`It stops at ${clock(booking!.stops_at, now)}; what runs in it ends then.`);
    void saveAll(app, documents).then((done) => body.say(told(done)));
    dialog = new Dialog({
      title: "This server stops soon",
      body,
      buttons: [
        Dialog.cancelButton({ label: "Dismiss" }),
        Dialog.createButton({ label: "Save all", accept: false, actions: ["save"] }),
        Dialog.okButton({ label: `Extend by ${step.label}`, actions: ["extend"] }),
      ],
    });
    const { button } = await dialog.launch();
    dialog = null;
    if (button.actions.includes("extend")) await extend(step.duration);
    if (button.actions.includes("save")) await save();
  };

  model.changed.connect(look);
  window.setInterval(look, 1000);
}

class Ending extends Widget {
  private status = document.createElement("p");

  constructor(text: string) {
    super();
    const first = document.createElement("p");
    first.textContent = text;
    this.status.setAttribute("role", "status");
    this.status.textContent = "Saving …";
    this.node.append(first, this.status);
  }

  /** What came of saving. */
  say(text: string): void {
    this.status.textContent = text;
  }
}
