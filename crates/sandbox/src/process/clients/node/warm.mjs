// What ahead.cjs loads before there is a handler.
export const handler = async (event) => event;
