// @ts-check
// Opens PScan in JupyterLab. Written as what a bundler would make: a container that takes modules from JupyterLab.
(() => {
  /** @type {any} */
  let shared;

  /** @param {string} name @returns {Promise<any>} one of JupyterLab's own modules */
  const part = async (name) => {
    const versions = Object.values(shared[name] ?? {});
    if (!versions.length) throw new Error(`PScan: this JupyterLab has no ${name}`);
    return (await versions[0].get())();
  };

  const NAMES = ["apputils", "application", "coreutils", "filebrowser", "launcher", "ui-components"];
  const COMMAND = "mlmp:pscan";
  const ICON =
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><g class="jp-icon3" fill="#616161">' +
    '<path d="M3 3h5v5H3zM9.5 3h5v5h-5zM16 3h5v5h-5zM3 9.5h5v5H3zM16 9.5h5v5h-5zM3 16h5v5H3zM9.5 16h5v5h-5z"/>' +
    '</g><path class="jp-icon-warn0" fill="#f37726" d="M9.5 9.5h5v5h-5z"/></svg>';

  /** @param {any} parts @returns {any} the plugin */
  const plugin = ({ apputils, application, coreutils, filebrowser, launcher, ui }) => ({
    id: "mlmp_pscan:plugin",
    description: "PScan, the browser for results",
    autoStart: true,
    optional: [launcher.ILauncher, apputils.ICommandPalette, filebrowser.IFileBrowserFactory, application.ILayoutRestorer],
    /** @type {(...parts: any[]) => void} */
    activate(app, tiles, palette, browsers, restorer) {
      const icon = new ui.LabIcon({ name: "mlmp:pscan", svgstr: ICON });
      const tracker = new apputils.WidgetTracker({ namespace: "mlmp-pscan" });
      const address = coreutils.URLExt.join(coreutils.PageConfig.getBaseUrl(), "pscan");

      /** @param {string} search the page's state, as its address has it @param {string} [id] the one it had before */
      const open = (search, id) => {
        const content = new ui.IFrame();
        const frame = content.node.querySelector("iframe");
        frame.removeAttribute("sandbox"); // in one no viewer for PDF comes up
        frame.addEventListener("load", () => widget.isVisible && frame.contentWindow.focus()); // for its keys
        content.url = address + search;
        const widget = new apputils.MainAreaWidget({ content });
        widget.id = id ?? `mlmp-pscan-${Date.now()}`;
        widget.title.label = "PScan";
        widget.title.icon = icon;
        widget.title.closable = true;
        widget.search = search;
        app.shell.add(widget, "main");
        tracker.add(widget);
        app.shell.activateById(widget.id);
        return widget;
      };

      app.commands.addCommand(COMMAND, {
        label: (/** @type {any} */ args) => (args.folder ? "Open in PScan" : "PScan"),
        caption: "Results of a parameter scan side by side",
        icon: (/** @type {any} */ args) => (args.palette ? undefined : icon),
        execute: (/** @type {any} */ args) => {
          if (args.search !== undefined) return open(args.search, args.id);
          const chosen = args.folder && [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])][0];
          return open(chosen ? `?${new URLSearchParams({ root: chosen.path.replace(/^[^/]*:/, "") })}` : "");
        },
      });
      tiles?.add({ command: COMMAND, category: "Other", rank: 50 });
      palette?.addItem({ command: COMMAND, category: "MLMP", args: { palette: true } });
      app.contextMenu.addItem({
        command: COMMAND, args: { folder: true }, selector: '.jp-DirListing-item[data-isdir="true"]', rank: 3,
      });
      restorer?.restore(tracker, {
        command: COMMAND,
        args: (/** @type {any} */ widget) => ({ search: widget.search, id: widget.id }),
        name: (/** @type {any} */ widget) => widget.id,
      });

      // The page says how it goes on, so that a reload of JupyterLab finds it where it was.
      addEventListener("message", (event) => {
        if (event.origin !== location.origin || typeof event.data?.pscan !== "string") return;
        tracker.forEach((/** @type {any} */ widget) => {
          if (widget.content.node.querySelector("iframe")?.contentWindow !== event.source) return;
          widget.search = event.data.pscan;
          widget.title.label = event.data.title || "PScan";
          tracker.save(widget);
        });
      });
    },
  });

  /** @type {any} */ (window)._JUPYTERLAB ??= {};
  /** @type {any} */ (window)._JUPYTERLAB.mlmp_pscan = {
    init(/** @type {any} */ scope) {
      shared = scope;
    },
    async get() {
      const [apputils, application, coreutils, filebrowser, launcher, ui] = await Promise.all(
        NAMES.map((name) => part(`@jupyterlab/${name}`)),
      );
      const made = { default: plugin({ apputils, application, coreutils, filebrowser, launcher, ui }), __esModule: true };
      return () => made;
    },
  };
})();
