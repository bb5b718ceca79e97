// Chromium starts no worker for a page opened from a file. There, the search's worker runs in a
// hidden frame of the same page instead, and what the two send each other goes through events.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      const attach = () => {
        document.body.append(frame);
        const inner = frame.contentWindow;
        inner.postMessage = (data) => this.tell(data);
        this.inner = inner;
        this.load(url).then(() => {
          const waiting = this.waiting;
          this.waiting = null;
          waiting.forEach((data) => this.postMessage(data));
        });
      };
      if (document.body) attach();
      else document.addEventListener("DOMContentLoaded", attach);
    }

    load(url) {
      return new Promise((resolve, reject) => {
        const script = this.inner.document.createElement("script");
        script.src = url;
        script.onload = resolve;
        script.onerror = reject;
        this.inner.document.body.append(script);
      });
    }

    tell(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data }));
    }

    terminate() {
      this.inner?.frameElement?.remove();
    }
  };
}
