// Preloaded (`node -r`) into servers that would bind every interface: forces 127.0.0.1 and
// tells the port on stderr as {"listening": PORT}, so that PORT=0 can be used.
"use strict";
const { Server } = require("node:net");

const listen = Server.prototype.listen;

Server.prototype.listen = function (first, ...rest) {
  this.once("listening", () => {
    const address = this.address();
    if (address && typeof address === "object") process.stderr.write(`${JSON.stringify({ listening: address.port })}\n`);
  });
  const callback = rest.find((argument) => typeof argument === "function");
  if (first !== null && typeof first === "object" && "port" in first) {
    return listen.call(this, { ...first, host: "127.0.0.1" }, ...rest);
  }
  if (typeof first === "number" || (typeof first === "string" && /^\d+$/.test(first))) {
    return listen.call(this, { port: Number(first), host: "127.0.0.1" }, callback);
  }
  return listen.call(this, first, ...rest);
};
