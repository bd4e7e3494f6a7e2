import type { ComponentChildren } from 'preact';

function Icon({ children, size = 16 }: { children: ComponentChildren; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
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
export const Search = () => <Icon><circle cx="7" cy="7" r="4.5" /><path d="m10.5 10.5 3.5 3.5" /></Icon>;
export const Close = () => <Icon><path d="m4 4 8 8M12 4l-8 8" /></Icon>;
export const Copy = () => <Icon><rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M10.5 5.500v-2A1.5 1.5 0 0 0 9 2H4a1.5 1.5 0 0 0-1.5 1.500V9A1.5 1.5 0 0 0 4 10.500h1.5" /></Icon>;
export const Check = () => <Icon><path d="m3 8.5 3.5 3.500L13 4.5" /></Icon>;
export const Down = () => <Icon><path d="m4 6 4 4 4-4" /></Icon>;
export const Up = () => <Icon><path d="m4 10 4-4 4 4" /></Icon>;
export const Link = () => <Icon><path d="M6.5 9.500a3 3 0 0 0 4.3 0l2-2a3 3 0 0 0-4.3-4.300l-1 1" /><path d="M9.5 6.500a3 3 0 0 0-4.3 0l-2 2a3 3 0 0 0 4.3 4.300l1-1" /></Icon>;
export const Refresh = () => <Icon><path d="M13.5 8a5.5 5.5 0 1 1-1.6-3.900L13.5 5.5" /><path d="M13.5 2v3.500H10" /></Icon>;
export const Download = () => <Icon><path d="M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.500h11" /></Icon>;
export const Plus = () => <Icon><path d="M8 3v10M3 8h10" /></Icon>;
export const Clock = () => <Icon><circle cx="8" cy="8" r="6" /><path d="M8 4.500V8l2.5 1.5" /></Icon>;
export const Menu = () => <Icon><path d="M2.5 4h11M2.5 8h11M2.5 12h11" /></Icon>;
export const Warn = () => <Icon><path d="M8 2 1.5 13.500h13L8 2z" /><path d="M8 6.500v3.200M8 11.700v.1" /></Icon>;
export const Info = () => <Icon><circle cx="8" cy="8" r="6" /><path d="M8 7.500v3.300M8 5.200v.1" /></Icon>;
export const Tenants = () => <Icon><path d="M2.5 13.500v-9l5-2.500v11.500M7.5 6l6 2v5.500M1.5 13.500h13M5 6v.1M5 9v.1M10.5 10.500v.1" /></Icon>;
export const Gauge = () => <Icon><path d="M2 12.500V3.500M2 12.500h12" /><path d="m4.5 10 2.5-3.5 2.5 2 4-5" /></Icon>;
export const Server = () => <Icon><rect x="2" y="2.5" width="12" height="4.5" rx="1" /><rect x="2" y="9" width="12" height="4.5" rx="1" /><path d="M4.5 4.700v.1M4.5 11.200v.1" /></Icon>;
export const Headset = () => <Icon><path d="M2.5 9.500V8a5.5 5.5 0 0 1 11 0v1.5" /><rect x="2" y="9" width="3" height="4.5" rx="1" /><rect x="11" y="9" width="3" height="4.5" rx="1" /></Icon>;
export const Heart = () => <Icon><path d="M1.5 8.500H5l1.5-4 3 7.5 1.5-3.500h3.5" /></Icon>;
export const Log = () => <Icon><path d="M3 2.500h7L13 5.500v8H3z" /><path d="M5.5 7h5M5.5 10h5" /></Icon>;
export const Key = () => <Icon><circle cx="5" cy="11" r="2.7" /><path d="m7 9 6-6M10.5 5.500l2 2" /></Icon>;
export const Person = () => <Icon><circle cx="8" cy="5.2" r="2.7" /><path d="M2.5 14c.6-3 2.7-4.5 5.5-4.500s4.9 1.5 5.5 4.5" /></Icon>;
export const Terminal = () => <Icon><path d="m3 4.5 3.5 3.500L3 11.500M8.5 12H13" /></Icon>;
export const Flame = () => <Icon><path d="M8 1.500c.5 3 4 4.5 4 8a4 4 0 0 1-8 0c0-1.5.7-2.5 1.5-3.300C5.7 7.5 6.3 8 7 8c.5-2.5-.5-4 1-6.500z" /></Icon>;
export const Sun = () => <Icon><circle cx="8" cy="8" r="2.7" /><path d="M8 1.500v1.300M8 13.200v1.300M1.5 8h1.300M13.2 8h1.300M3.4 3.400l.9.900M11.7 11.700l.9.900M3.4 12.600l.9-.9M11.7 4.300l.9-.9" /></Icon>;
export const Moon = () => <Icon><path d="M13 9.500A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.500z" /></Icon>;
export const Half = () => <Icon><circle cx="8" cy="8" r="5.5" /><path d="M8 2.500v11a5.5 5.5 0 0 0 0-11z" fill="currentColor" /></Icon>;
