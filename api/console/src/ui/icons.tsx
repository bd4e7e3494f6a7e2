import type { ComponentChildren } from 'preact';

function Icon({ children, size = 16 }: { children: ComponentChildren; size?: number }) {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.5"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export const Eye = () => (
  <svg class="icon" width="22" height="22" viewBox="0 0 32 32" fill="none" aria-hidden="true">
    <path d="M4 16c3-5.3 7-8 12-8s9 2.7 12 8c-3 5.3-7 8-12 8s-9-2.7-12-8z" stroke="currentColor" stroke-width="2.4" stroke-linejoin="round" />
    <circle cx="16" cy="16" r="4" fill="currentColor" />
  </svg>
);
export const Search = () => (
  <Icon>
    <circle cx="7" cy="7" r="4.5" />
    <path d="m10.5 10.5 3.5 3.5" />
  </Icon>
);
export const Close = () => (
  <Icon>
    <path d="m4 4 8 8M12 4l-8 8" />
  </Icon>
);
export const Copy = () => (
  <Icon>
    <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
    <path d="M10.5 5.5v-2A1.5 1.5 0 0 0 9 2H4a1.5 1.5 0 0 0-1.5 1.5V9A1.5 1.5 0 0 0 4 10.5h1.5" />
  </Icon>
);
export const Print = () => (
  <Icon>
    <path d="M4.5 6V2.5h7V6M4.5 11.5h-2v-5h11v5h-2" />
    <path d="M4.5 9.5h7v4h-7z" />
  </Icon>
);
export const Check = () => (
  <Icon>
    <path d="m3 8.5 3.5 3.5L13 4.5" />
  </Icon>
);
export const Down = () => (
  <Icon>
    <path d="m4 6 4 4 4-4" />
  </Icon>
);
export const Up = () => (
  <Icon>
    <path d="m4 10 4-4 4 4" />
  </Icon>
);
export const Link = () => (
  <Icon>
    <path d="M6.5 9.5a3 3 0 0 0 4.3 0l2-2a3 3 0 0 0-4.3-4.3l-1 1" />
    <path d="M9.5 6.5a3 3 0 0 0-4.3 0l-2 2a3 3 0 0 0 4.3 4.3l1-1" />
  </Icon>
);
export const Refresh = () => (
  <Icon>
    <path d="M13.5 8a5.5 5.5 0 1 1-1.6-3.9L13.5 5.5" />
    <path d="M13.5 2v3.5H10" />
  </Icon>
);
export const Download = () => (
  <Icon>
    <path d="M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11" />
  </Icon>
);
export const Plus = () => (
  <Icon>
    <path d="M8 3v10M3 8h10" />
  </Icon>
);
export const Clock = () => (
  <Icon>
    <circle cx="8" cy="8" r="6" />
    <path d="M8 4.5V8l2.5 1.5" />
  </Icon>
);
export const Menu = () => (
  <Icon>
    <path d="M2.5 4h11M2.5 8h11M2.5 12h11" />
  </Icon>
);
export const Warn = () => (
  <Icon>
    <path d="M8 2 1.5 13.5h13L8 2z" />
    <path d="M8 6.5v3.2M8 11.7v.1" />
  </Icon>
);
export const Info = () => (
  <Icon>
    <circle cx="8" cy="8" r="6" />
    <path d="M8 7.5v3.3M8 5.2v.1" />
  </Icon>
);
export const Tenants = () => (
  <Icon>
    <path d="M2.5 13.5v-9l5-2.5v11.5M7.5 6l6 2v5.5M1.5 13.5h13M5 6v.1M5 9v.1M10.5 10.5v.1" />
  </Icon>
);
export const Door = () => (
  <Icon>
    <path d="M4 14V2.5h8V14M2 14h12M9.5 8.5v.01" />
  </Icon>
);
export const Gauge = () => (
  <Icon>
    <path d="M2 12.5V3.5M2 12.5h12" />
    <path d="m4.5 10 2.5-3.5 2.5 2 4-5" />
  </Icon>
);
export const Server = () => (
  <Icon>
    <rect x="2" y="2.5" width="12" height="4.5" rx="1" />
    <rect x="2" y="9" width="12" height="4.5" rx="1" />
    <path d="M4.5 4.7v.1M4.5 11.2v.1" />
  </Icon>
);
export const Headset = () => (
  <Icon>
    <path d="M2.5 9.5V8a5.5 5.5 0 0 1 11 0v1.5" />
    <rect x="2" y="9" width="3" height="4.5" rx="1" />
    <rect x="11" y="9" width="3" height="4.5" rx="1" />
  </Icon>
);
export const Heart = () => (
  <Icon>
    <path d="M1.5 8.5H5l1.5-4 3 7.5 1.5-3.5h3.5" />
  </Icon>
);
export const Log = () => (
  <Icon>
    <path d="M3 2.5h7L13 5.5v8H3z" />
    <path d="M5.5 7h5M5.5 10h5" />
  </Icon>
);
export const Key = () => (
  <Icon>
    <circle cx="5" cy="11" r="2.7" />
    <path d="m7 9 6-6M10.5 5.5l2 2" />
  </Icon>
);
export const Person = () => (
  <Icon>
    <circle cx="8" cy="5.2" r="2.7" />
    <path d="M2.5 14c.6-3 2.7-4.5 5.5-4.5s4.9 1.5 5.5 4.5" />
  </Icon>
);
export const Terminal = () => (
  <Icon>
    <path d="m3 4.5 3.5 3.5L3 11.5M8.5 12H13" />
  </Icon>
);
export const Out = () => (
  <Icon>
    <path d="M9 2.5h4.5v11H9M2.5 8H10M7 5l3 3-3 3" />
  </Icon>
);
export const Flame = () => (
  <Icon>
    <path d="M8 1.5c.5 3 4 4.5 4 8a4 4 0 0 1-8 0c0-1.5.7-2.5 1.5-3.3C5.7 7.5 6.3 8 7 8c.5-2.5-.5-4 1-6.5z" />
  </Icon>
);
export const Sun = () => (
  <Icon>
    <circle cx="8" cy="8" r="2.7" />
    <path d="M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9" />
  </Icon>
);
export const Moon = () => (
  <Icon>
    <path d="M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z" />
  </Icon>
);
export const Half = () => (
  <Icon>
    <circle cx="8" cy="8" r="5.5" />
    <path d="M8 2.5v11a5.5 5.5 0 0 0 0-11z" fill="currentColor" />
  </Icon>
);
export const Bookmark = () => (
  <Icon>
    <path d="M4.5 2.5h7v11L8 10.8 4.5 13.5z" />
  </Icon>
);
export const Edit = () => (
  <Icon>
    <path d="M10.5 3l2.5 2.5L6 12.5l-3 .5.5-3z" />
  </Icon>
);
export const Columns = () => (
  <Icon>
    <path d="M2.5 3h11v10h-11zM6.2 3v10M9.8 3v10" />
  </Icon>
);
