// What ahead.cjs loads before there is a handler.
'use strict';

exports.handler = async (event) => event;
