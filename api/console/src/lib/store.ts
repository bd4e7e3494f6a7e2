import { useEffect, useState } from 'preact/hooks';

/** A value that components can watch. */
export class Store<T> {
  private watchers = new Set<() => void>();
  constructor(private value: T) {}

  get(): T {
    return this.value;
  }

  set(value: T): void {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const watch of [...this.watchers]) watch();
  }

  update(change: Partial<T>): void {
    this.set({ ...this.value, ...change });
  }

  /** Calls watch after every change until the returned function is called. */
  watch(watch: () => void): () => void {
    this.watchers.add(watch);
    return () => this.watchers.delete(watch);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(() => store.get());
    return store.watch(() => setValue(() => store.get()));
  }, [store]);
  return value;
}
