"use client";
// Its modules run in `next build` as well, which renders this page.
export { Room as default } from "../../app/room.js";
