// One handler in each of the ways a Node handler may answer.
exports.promise = async (event) => ({ kind: "promise", event });
exports.callback = (event, context, callback) => {
  setTimeout(() => callback(null, { kind: "callback", event }), 1);
};
exports.plain = (event, context) => context.succeed({ kind: "succeed", event });
exports.rejects = async (event) => {
  throw new TypeError(event.text);
};
exports.calls_back = (event, context, callback) => callback(new RangeError(event.text));
exports.exits = async () => process.exit(4);
exports.unhandled = () => {
  setTimeout(() => {
    throw new Error("out of band");
  }, 1);
};
