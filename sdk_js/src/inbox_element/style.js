/**
 * Custom properties of the page win: `--tidings-accent` and the others are the public ones. No selector relates rows to
 * each other: a new row would make the browser style all others again.
 */
export const STYLE = `
:host { display: inline-block; position: relative; text-align: start;
  --accent: var(--tidings-accent, light-dark(#4f46e5, #a5b4fc));
  --on-accent: var(--tidings-on-accent, light-dark(#fff, #1e1b4b));
  --surface: var(--tidings-surface, light-dark(#fff, #17181c));
  --hover: var(--tidings-hover, light-dark(#f4f5f7, #212329));
  --text: var(--tidings-text, light-dark(#15171c, #f1f2f4));
  --muted: var(--tidings-muted, light-dark(#5b616e, #a3a9b6));
  --line: var(--tidings-line, light-dark(#e6e8ec, #2c2f36));
  --badge: var(--tidings-badge, #d92d20);
  --faint: color-mix(in srgb, var(--text) 7%, transparent);
  --radius: var(--tidings-radius, 14px);
  font: 14px/1.45 var(--tidings-font, system-ui, -apple-system, "Segoe UI", sans-serif); }
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([theme="auto"]) { color-scheme: light dark; }
:host([hidden]), [hidden] { display: none !important; }
*, ::before, ::after { box-sizing: border-box; }
button { all: unset; box-sizing: border-box; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent) !important; outline-offset: -2px; }
.icon { inline-size: 18px; block-size: 18px; fill: none; stroke: currentColor; stroke-width: 1.75;
  stroke-linecap: round; stroke-linejoin: round; display: block; }
.bell-button { position: relative; display: grid; place-items: center; inline-size: 40px; block-size: 40px;
  border-radius: 12px; color: var(--text); }
.bell-button:hover, .bell-button[aria-expanded="true"] { background: var(--hover); }
.bell-button .icon { inline-size: 22px; block-size: 22px; }
.badge { position: absolute; inset-block-start: -2px; inset-inline-start: 20px; min-inline-size: 18px; padding: 0 5px;
  border-radius: 9px; background: var(--badge); color: #fff; font-size: 11px; font-weight: 650; line-height: 18px;
  text-align: center; box-shadow: 0 0 0 2px var(--surface); font-variant-numeric: tabular-nums;
  animation: pop .22s cubic-bezier(.3, 1.6, .6, 1); }
@keyframes pop { from { transform: scale(.4); opacity: 0; } }
.panel { position: absolute; z-index: 1000; inset-block-start: calc(100% + 8px); inset-inline-end: 0;
  inline-size: min(420px, calc(100vw - 24px)); max-block-size: min(580px, calc(100dvh - 84px));
  min-block-size: min(340px, calc(100dvh - 84px));
  display: flex; flex-direction: column; overflow: hidden; color: var(--text); background: var(--surface);
  border: 1px solid var(--line); border-radius: var(--radius);
  box-shadow: 0 2px 6px rgb(0 0 0 / .06), 0 20px 50px light-dark(rgb(15 20 30 / .18), rgb(0 0 0 / .6));
  animation: appear .16s cubic-bezier(.2, .8, .2, 1); }
:host([placement="start"]) .panel, .panel.flipped { inset-inline: 0 auto; }
:host([placement="start"]) .flipped { inset-inline: auto 0; }
@keyframes appear { from { opacity: 0; transform: translateY(-6px); } }
.header { display: flex; align-items: center; gap: 2px; padding: 12px 10px 6px; padding-inline-start: 20px; }
h2 { flex: 1; margin: 0; font-size: 17px; font-weight: 650; letter-spacing: -.01em; }
.icon-button { display: grid; place-items: center; inline-size: 34px; block-size: 34px; border-radius: 9px;
  color: var(--muted); }
.icon-button:hover, .icon-button[aria-expanded="true"] { background: var(--faint); color: var(--text); }
.icon-button[aria-disabled="true"] { opacity: .4; background: none; cursor: default; }
:dir(rtl) .back { transform: scaleX(-1); }
.tabs { display: flex; gap: 20px; padding-inline: 20px; border-block-end: 1px solid var(--line); }
.tabs button { display: flex; align-items: center; gap: 6px; padding: 7px 1px 9px; color: var(--muted);
  font-weight: 550; border-block-end: 2px solid transparent; margin-block-end: -1px; }
.tabs button:hover { color: var(--text); }
.tabs button[aria-selected="true"] { color: var(--text); border-color: var(--accent); }
.tab-count { padding: 1px 7px; border-radius: 9px; background: var(--faint);
  font-size: 12px; font-variant-numeric: tabular-nums; }
.notice { display: flex; align-items: center; gap: 10px; padding: 9px 20px; background: var(--hover);
  color: var(--muted); font-size: 13px; border-block-end: 1px solid var(--line); }
.notice span { flex: 1; }
.link { color: var(--accent); font-weight: 600; border-radius: 4px; }
.link:hover { text-decoration: underline; }
.scroll:focus-visible { outline: none !important; }
.scroll { flex: 1 1 auto; display: flex; flex-direction: column; overflow-y: auto; overscroll-behavior: contain;
  scrollbar-width: thin; }
.scroll > * { flex: none; }
.scroll > .message { flex: 1 0 auto; }
ul { list-style: none; margin: 0; padding: 6px; }
.row { position: relative; margin-block-end: 2px; border-radius: 10px; content-visibility: auto;
  contain-intrinsic-size: auto 92px; }
.unread { background: color-mix(in srgb, var(--accent) 5%, transparent); }
.row:hover, .row:has([aria-expanded="true"]) { background: var(--hover); }
.open { display: flex; gap: 12px; inline-size: 100%; padding: 12px; padding-inline: 20px 12px; border-radius: 10px;
  color: inherit; text-decoration: none; }
.unread .open::before { content: ""; position: absolute; inset-inline-start: 7px; inset-block-start: 27px;
  inline-size: 8px; block-size: 8px; border-radius: 50%; background: var(--accent); }
.avatar { flex: none; display: grid; place-items: center; inline-size: 38px; block-size: 38px; border-radius: 50%;
  overflow: hidden; background: var(--faint); color: var(--muted); }
.unread .avatar { background: color-mix(in srgb, var(--accent) 14%, transparent); color: var(--accent); }
.avatar img { inline-size: 100%; block-size: 100%; object-fit: cover; }
.content { min-inline-size: 0; flex: 1; display: flex; flex-direction: column; gap: 2px; overflow-wrap: anywhere; }
.first { display: flex; gap: 12px; align-items: baseline; }
.title, .body { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden;
  text-align: -webkit-match-parent; text-align: match-parent; unicode-bidi: plaintext; }
.title { flex: 1; color: var(--text); font-weight: 480; }
.unread .title { font-weight: 620; }
.body, time, .category { color: var(--muted); }
time { flex: none; font-size: 12px; font-variant-numeric: tabular-nums; }
.count { padding: 0 6px; border-radius: 8px; background: var(--faint); font-size: 12px; font-weight: 600; }
.category { align-self: start; max-inline-size: 100%; margin-block-start: 4px; padding: 1px 7px; border-radius: 6px;
  background: var(--faint); font-size: 11.5px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.actions { position: absolute; inset-block-start: 8px; inset-inline-end: 8px; display: flex; background: var(--hover);
  box-shadow: -8px 0 6px -1px var(--hover), 3px 0 4px -1px var(--hover); opacity: 0; }
.row:hover .actions, .row:has(:focus-visible, [aria-expanded="true"]) .actions { opacity: 1; }
.row:hover time, .row:has(:focus-visible, [aria-expanded="true"]) time { opacity: 0; }
.row:has(:focus-visible) { background: var(--hover); }
.actions .icon-button { inline-size: 30px; block-size: 26px; border-radius: 7px; }
.dot path { fill: currentColor; }
.more path { stroke-width: 2.75; }
.backdrop { position: absolute; z-index: 2; inset: 0; }
.menu { position: absolute; z-index: 2; min-inline-size: 190px; max-inline-size: min(300px, calc(100% - 24px));
  padding: 5px; border: 1px solid var(--line); border-radius: 12px; background: var(--surface);
  box-shadow: 0 2px 6px rgb(0 0 0 / .06), 0 12px 32px light-dark(rgb(15 20 30 / .18), rgb(0 0 0 / .6));
  animation: appear .12s ease-out; }
.menu button { display: flex; gap: 10px; align-items: center; inline-size: 100%; padding: 7px 10px;
  border-radius: 8px; }
.menu button:focus { background: var(--hover); }
.menu span { unicode-bidi: plaintext; overflow-wrap: anywhere; }
.menu .icon { flex: none; color: var(--muted); }
.menu .apart { position: relative; margin-block-start: 11px; }
.apart::before { content: ""; position: absolute; inset-block-start: -6px; inset-inline: 5px; block-size: 1px;
  background: var(--line); }
.toast { position: absolute; z-index: 1; inset-block-end: 14px; inset-inline: 14px; display: flex; gap: 12px;
  padding: 10px 16px; border-radius: 10px; background: var(--text); color: var(--surface); font-size: 13px;
  box-shadow: 0 6px 20px rgb(0 0 0 / .25); animation: rise .16s ease-out; }
.toast span { flex: 1; overflow-wrap: anywhere; }
.toast .link { color: inherit; text-decoration: underline; text-underline-offset: 3px; }
@keyframes rise { from { opacity: 0; transform: translateY(8px); } }
.message { display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 6px;
  padding: 32px; text-align: center; color: var(--muted); }
.sign { display: grid; place-items: center; inline-size: 56px; block-size: 56px; margin: 26px 26px 34px;
  border-radius: 50%; background: color-mix(in srgb, var(--accent) 16%, var(--surface)); color: var(--accent);
  box-shadow: 0 0 0 14px color-mix(in srgb, var(--accent) 8%, var(--surface)),
    0 0 0 30px color-mix(in srgb, var(--accent) 4%, var(--surface)); }
.message .icon { inline-size: 26px; block-size: 26px; }
.message strong { color: var(--text); font-size: 15px; }
.message .link { margin-block-start: 12px; padding: 8px 18px; border-radius: 10px; background: var(--accent);
  color: var(--on-accent); }
.skeleton { display: flex; gap: 12px; padding: 14px 26px; }
.skeleton i, .skeleton b { border-radius: 6px; background: var(--faint); animation: pulse 1.5s ease-in-out infinite; }
.skeleton i { flex: none; inline-size: 38px; block-size: 38px; border-radius: 50%; }
.skeleton div { flex: 1; display: grid; gap: 9px; align-content: center; }
.skeleton b { block-size: 11px; }
.skeleton b:first-child { inline-size: 72%; }
.skeleton b:last-child { inline-size: 34%; }
.skeleton:nth-child(2n) b:first-child { inline-size: 55%; }
.skeleton:nth-child(3n) b:nth-child(2) { inline-size: 82%; }
@keyframes pulse { 50% { opacity: .45; } }
.preference { margin: 0; padding: 14px 20px; border: 0; border-block-end: 1px solid var(--line); }
legend { float: inline-start; inline-size: 100%; padding: 0; font-weight: 620; display: flex; gap: 8px; }
.hint { margin-inline-start: auto; color: var(--muted); font-size: 12.5px; font-weight: 500; }
.preference label { clear: both; display: flex; align-items: center; justify-content: space-between;
  padding-block-start: 9px; color: var(--muted); }
input { appearance: none; position: relative; margin: 0; inline-size: 36px; block-size: 20px; border-radius: 10px;
  background: var(--muted); cursor: pointer; transition: background .15s; }
input::after { content: ""; position: absolute; inset-block-start: 3px; inset-inline-start: 3px; inline-size: 14px;
  block-size: 14px; border-radius: 50%; background: var(--surface); transition: inset-inline-start .15s; }
input:checked { background: var(--accent); }
input:checked::after { inset-inline-start: 19px; }
input:disabled { opacity: .45; cursor: default; }
.for-screen-readers { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
[data-action="close"] { display: none; }
@media (max-width: 520px) {
  .panel { position: fixed; inset: 0 !important; inline-size: auto; max-block-size: none; border: 0; border-radius: 0;
    padding-block-end: env(safe-area-inset-bottom); font-size: 15px; animation-name: rise; }
  [data-action="close"] { display: grid; }
  .menu { position: fixed; inset: auto 10px calc(10px + env(safe-area-inset-bottom)) !important; padding: 8px;
    max-inline-size: none; border-radius: 16px; animation-name: rise; }
  .backdrop { background: rgb(0 0 0 / .4); }
  .menu button { padding: 12px; }
}
@media (hover: none) {
  .actions { inset-block-start: 34px; inset-inline-end: 6px; opacity: 1; background: none; box-shadow: none; }
  .actions .icon-button { display: none; }
  .actions [aria-haspopup] { display: grid; inline-size: 40px; block-size: 36px; }
  .row time { opacity: 1 !important; }
  .body, .category { margin-inline-end: 34px; }
  .row:hover { background: none; }
  .unread:hover { background: color-mix(in srgb, var(--accent) 5%, transparent); }
}
@media (forced-colors: active) {
  .badge, .unread .open::before { forced-color-adjust: none; background: Highlight; color: HighlightText; }
}
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { animation: none !important; transition: none !important; }
}
`;
