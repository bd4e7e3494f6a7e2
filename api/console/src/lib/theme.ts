import { Store, useStore } from './store';

export type Theme = 'system' | 'light' | 'dark';

const KEY = 'argus.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const chosen = new Store<Theme>(read());
/** Rises when the colours change, for what draws with them itself. */
export const themeChanges = new Store(0);

function read(): Theme {
  const value = localStorage.getItem(KEY);
  return value === 'light' || value === 'dark' ? value : 'system';
}

function apply(): void {
  const theme = chosen.get();
  document.documentElement.dataset.theme = theme === 'system' ? (system.matches ? 'dark' : 'light') : theme;
  themeChanges.set(themeChanges.get() + 1);
}

export function startTheme(): void {
  apply();
  system.addEventListener('change', apply);
}

export function setTheme(theme: Theme): void {
  if (theme === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme);
  chosen.set(theme);
  apply();
}

export function useTheme(): Theme {
  return useStore(chosen);
}

/** A colour of the present theme. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
