// MLMP in JupyterLab: until when, more time, saving before the end, running as job, the jobs.
import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Dialog, ICommandPalette, Notification, showDialog } from "@jupyterlab/apputils";
import { IDocumentManager } from "@jupyterlab/docmanager";
import { IDefaultFileBrowser, IFileBrowserFactory } from "@jupyterlab/filebrowser";
import { IStatusBar } from "@jupyterlab/statusbar";
import { Refused } from "./api";
import { BookingModel } from "./booking";
import { Countdown, EXTEND } from "./countdown";
import { addCourses } from "./courses";
import { watchEnd } from "./ending";
import { addJobs } from "./jobs";
import { showMessages } from "./messages";
import { addRun } from "./run";
import { addTensorBoard } from "./tensorboard";
import { clock } from "./time";

const CATEGORY = "MLMP";

/** `90m` as `1 h 30 min`. */
function said(duration: string): string {
  const minutes = parseInt(duration);
  const hours = Math.floor(minutes / 60);
  return [hours ? `${hours} h` : "", minutes % 60 ? `${minutes % 60} min` : ""].filter(Boolean).join(" ");
}

/** More time; what came of it is said. */
export async function extend(model: BookingModel, duration: string): Promise<boolean> {
  try {
    const booking = await model.extend(duration);
    if (booking) Notification.success(`Extended until ${clock(booking.stops_at, model.now)}.`, { autoClose: 5000 });
    return true;
  } catch (error) {
    const longest = error instanceof Refused ? error.problem.longest_end : undefined;
    const room = typeof longest === "string" && model.booking ? Date.parse(longest) - model.booking.end : 0;
    const buttons = [Dialog.cancelButton({ label: "Dismiss" })];
    if (room >= 1000) {
      const until = clock(model.booking!.end + room, model.now);
      buttons.push(Dialog.okButton({ label: `Extend until ${until}` }));
    }
    const { button } = await showDialog({ title: "Not extended", body: (error as Error).message, buttons });
    return button.accept && extend(model, `${Math.floor(room / 1000)}s`);
  }
}

const booking: JupyterFrontEndPlugin<void> = {
  id: "mlmp-lab:booking",
  description: "How long the booking goes on, more time, saving before its end, and what is said in class",
  autoStart: true,
  requires: [IDocumentManager],
  optional: [IStatusBar, ICommandPalette],
  activate: (app: JupyterFrontEnd, documents: IDocumentManager, bar: IStatusBar | null, palette: ICommandPalette | null) => {
    const model = new BookingModel();
    app.commands.addCommand(EXTEND, {
      label: (args) => `Extend the Booking by ${said(String(args.duration ?? "30m"))}`,
      isEnabled: () => model.booking !== null,
      execute: (args) => extend(model, String(args.duration ?? "30m")),
    });
    model.changed.connect(() => app.commands.notifyCommandChanged(EXTEND));
    for (const duration of ["30m", "60m", "120m"]) {
      palette?.addItem({ command: EXTEND, category: CATEGORY, args: { duration } });
    }
    bar?.registerStatusItem("mlmp-lab:countdown", {
      align: "right",
      rank: 50,
      priority: 1,
      item: new Countdown(model, app.commands),
    });
    watchEnd(model, app, documents, (duration) => extend(model, duration));
    showMessages(model);
  },
};

const jobs: JupyterFrontEndPlugin<void> = {
  id: "mlmp-lab:jobs",
  description: "Running the open script or notebook as a job, and what became of it",
  autoStart: true,
  requires: [IDocumentManager],
  optional: [ICommandPalette, IFileBrowserFactory, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    documents: IDocumentManager,
    palette: ICommandPalette | null,
    browsers: IFileBrowserFactory | null,
    restorer: ILayoutRestorer | null,
  ) => {
    const panel = addJobs(app, palette, restorer);
    addRun(app, documents, palette, browsers, panel);
  },
};

const courses: JupyterFrontEndPlugin<void> = {
  id: "mlmp-lab:courses",
  description: "The files of one's courses: what failed, and getting them again",
  autoStart: true,
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, palette: ICommandPalette | null) => addCourses(app, palette, CATEGORY),
};

const tensorboard: JupyterFrontEndPlugin<void> = {
  id: "mlmp-lab:tensorboard",
  description: "TensorBoard over a folder or a job, at a click",
  autoStart: true,
  optional: [ICommandPalette, IFileBrowserFactory, IDefaultFileBrowser, ILayoutRestorer],
  activate: addTensorBoard,
};

export default [booking, jobs, courses, tensorboard];
