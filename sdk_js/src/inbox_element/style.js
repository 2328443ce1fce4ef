/** Custom properties of the page win: `--tidings-accent` and the others are the public ones. */
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
.badge { position: absolute; inset-block-start: 1px; inset-inline-start: 21px; min-inline-size: 18px; padding: 0 5px;
  border-radius: 9px; background: var(--badge); color: #fff; font-size: 11px; font-weight: 650; line-height: 18px;
  text-align: center; box-shadow: 0 0 0 2px var(--surface); font-variant-numeric: tabular-nums; }
.panel { position: absolute; z-index: 1000; inset-block-start: calc(100% + 8px); inset-inline-end: 0;
  inline-size: min(420px, calc(100vw - 24px)); max-block-size: min(580px, calc(100vh - 84px));
  min-block-size: min(340px, calc(100vh - 84px));
  display: flex; flex-direction: column; overflow: hidden; color: var(--text); background: var(--surface);
  border: 1px solid var(--line); border-radius: var(--radius);
  box-shadow: 0 2px 6px rgb(0 0 0 / .06), 0 18px 48px rgb(0 0 0 / .18); animation: appear .14s ease-out; }
:host([placement="start"]) .panel, .panel.flipped { inset-inline: 0 auto; }
:host([placement="start"]) .flipped { inset-inline: auto 0; }
@keyframes appear { from { opacity: 0; transform: translateY(-6px); } }
.header { display: flex; align-items: center; gap: 2px; padding: 12px 10px 6px 18px; padding-inline: 18px 10px; }
h2 { flex: 1; margin: 0; font-size: 17px; font-weight: 650; letter-spacing: -.01em; }
.icon-button { display: grid; place-items: center; inline-size: 34px; block-size: 34px; border-radius: 9px;
  color: var(--muted); }
.icon-button:hover { background: var(--hover); color: var(--text); }
:dir(rtl) .back { transform: scaleX(-1); }
.tabs { display: flex; gap: 20px; padding-inline: 18px; border-block-end: 1px solid var(--line); }
.tabs button { padding: 7px 1px 9px; color: var(--muted); font-weight: 550; border-block-end: 2px solid transparent;
  margin-block-end: -1px; }
.tabs button:hover { color: var(--text); }
.tabs button[aria-selected="true"] { color: var(--text); border-color: var(--accent); }
.tab-count { margin-inline-start: 2px; padding: 1px 7px; border-radius: 9px; background: var(--hover);
  font-size: 12px; font-variant-numeric: tabular-nums; }
.notice { display: flex; align-items: center; gap: 10px; padding: 9px 18px; background: var(--hover);
  color: var(--muted); font-size: 13px; border-block-end: 1px solid var(--line); }
.notice span { flex: 1; }
.link { color: var(--accent); font-weight: 600; border-radius: 4px; }
.scroll:focus-visible { outline: none !important; }
.scroll { flex: 1 1 auto; display: flex; flex-direction: column; overflow-y: auto; overscroll-behavior: contain;
  scrollbar-width: thin; }
.scroll > * { flex: none; }
ul { list-style: none; margin: 0; padding: 0; }
.row { position: relative; border-block-end: 1px solid var(--line); content-visibility: auto;
  contain-intrinsic-size: auto 96px; }
.row:hover, .row:focus-within { background: var(--hover); }
.open { display: flex; gap: 12px; inline-size: 100%; padding: 13px 18px; padding-inline: 26px 18px; color: inherit;
  text-decoration: none; }
.unread .open::before { content: ""; position: absolute; inset-inline-start: 10px; inset-block-start: 28px;
  inline-size: 8px; block-size: 8px; border-radius: 50%; background: var(--accent); }
.avatar { flex: none; display: grid; place-items: center; inline-size: 38px; block-size: 38px; border-radius: 50%;
  overflow: hidden; background: color-mix(in srgb, var(--accent) 13%, transparent); color: var(--accent); }
.avatar img { inline-size: 100%; block-size: 100%; object-fit: cover; }
.content { min-inline-size: 0; flex: 1; display: flex; flex-direction: column; gap: 2px; overflow-wrap: anywhere; }
.title { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden;
  color: var(--muted); font-weight: 500; text-align: start; }
.unread .title { color: var(--text); font-weight: 620; }
.title, .body { unicode-bidi: plaintext; }
.count { padding: 0 6px; border-radius: 8px; background: var(--line); color: var(--text); font-size: 12px; }
.body { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden;
  color: var(--muted); text-align: start; }
.meta { display: flex; gap: 6px; color: var(--muted); font-size: 12.5px; }
.meta time::before { content: "·"; margin-inline-end: 6px; }
.actions { position: absolute; inset-block-start: 8px; inset-inline-end: 10px; display: flex; padding: 2px;
  border-radius: 11px; background: var(--surface); border: 1px solid var(--line); opacity: 0; }
.row:hover .actions, .row:focus-within .actions { opacity: 1; }
.actions .icon-button { inline-size: 30px; block-size: 28px; }
.actions .dot path { fill: currentColor; }
.scroll > .message { flex: 1 0 auto; }
.message { display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 6px;
  padding: 32px; text-align: center; color: var(--muted); }
.message .icon { inline-size: 26px; block-size: 26px; }
.message .avatar { inline-size: 60px; block-size: 60px; margin-block-end: 10px; }
.message strong { color: var(--text); font-size: 15px; }
.message .link { margin-block-start: 10px; padding: 8px 16px; border-radius: 10px; background: var(--accent);
  color: var(--on-accent); }
.skeleton { display: flex; gap: 12px; padding: 16px 26px; }
.skeleton i { border-radius: 7px; background: var(--line); block-size: 12px; animation: pulse 1.4s infinite; }
.skeleton > i { flex: none; inline-size: 38px; block-size: 38px; border-radius: 50%; }
.skeleton div { flex: 1; display: grid; gap: 10px; align-content: center; }
.skeleton div i:last-child { inline-size: 55%; }
@keyframes pulse { 50% { opacity: .45; } }
.preference { margin: 0; padding: 14px 18px; border: 0; border-block-end: 1px solid var(--line); }
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
    padding-block-end: env(safe-area-inset-bottom); }
  [data-action="close"] { display: grid; }
}
@media (hover: none) {
  .actions { inset-block: auto 6px; opacity: 1; border: 0; background: none; }
  .open { padding-block-end: 18px; }
}
@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after { animation: none !important; transition: none !important; }
}
`;
