// The texts of this page in its language: say() puts values into the places of a string, which are {name} there.
"use strict";
const strings = JSON.parse(document.getElementById("strings").textContent);
const say = (key, values = {}) => strings[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
