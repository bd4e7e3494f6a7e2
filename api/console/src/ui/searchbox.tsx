// The search box with completion, as the combobox of the ARIA practices: the list stays out of the tab order,
// arrows choose, Enter or Tab takes.

import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { type Choice, complete, unfinished } from '../lib/complete';
import type { Condition } from '../lib/filter';
import { formatShort } from '../lib/format';
import { parse } from '../lib/syntax';
import type { Facets } from '../lib/types';
import * as icons from './icons';

export interface Found {
  conditions: Condition[];
  since: string | null;
  until: string | null;
}

export function SearchBox({
  facets,
  onWant,
  onSearch,
  placeholder,
}: {
  facets: Facets | undefined;
  /** the box has the focus: completion will be needed */
  onWant: () => void;
  onSearch: (found: Found) => void;
  placeholder: string;
}) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState('');
  const [caret, setCaret] = useState(0);
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const [problem, setProblem] = useState('');

  const choices: Choice[] = open ? complete(text, caret, facets) : [];
  const at = Math.min(active, choices.length - 1);

  const take = (choice: Choice) => {
    const next = text.slice(0, choice.start) + choice.insert + text.slice(choice.end);
    const to = choice.start + choice.insert.length;
    setText(next);
    setCaret(to);
    setActive(-1);
    setOpen(true);
    // At once, not when it is drawn: what is typed meanwhile must not land elsewhere.
    if (input.current) {
      input.current.value = next;
      input.current.focus();
      input.current.setSelectionRange(to, to);
    }
  };

  const search = () => {
    const found = parse(text);
    if (found.problems.length > 0) {
      setProblem(found.problems[0]!.message);
      const { start, end } = found.problems[0]!;
      input.current?.setSelectionRange(start, end);
      setOpen(false);
      return;
    }
    setProblem('');
    setOpen(false);
    setActive(-1);
    if (text.trim() === '') return;
    setText('');
    setCaret(0);
    onSearch(found);
  };

  const key = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      if (!open) setOpen(true);
      else if (choices.length > 0) setActive((at + (event.key === 'ArrowDown' ? 1 : choices.length - (at < 0 ? 0 : 1))) % choices.length);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      // What cannot be searched for as it stands is completed first.
      if (at >= 0) take(choices[at]!);
      else if (choices.length > 0 && unfinished(text, caret, facets)) take(choices[0]!);
      else search();
    } else if (event.key === 'Tab' && text !== '' && choices.length > 0 && !event.shiftKey) {
      event.preventDefault();
      take(choices[Math.max(at, 0)]!);
    } else if (event.key === 'Escape') {
      event.preventDefault();
      if (open && choices.length > 0) setOpen(false);
      else input.current?.blur();
    }
  };

  const moved = () => {
    setCaret(input.current?.selectionStart ?? 0);
    setActive(-1);
  };

  useEffect(() => {
    if (at >= 0) document.getElementById(`${id}-${at}`)?.scrollIntoView({ block: 'nearest' });
  }, [at]);

  return (
    <div class="searchbox" role="search">
      <icons.Search />
      <input
        ref={input}
        id="search"
        type="text"
        role="combobox"
        class="mono"
        aria-label="Search the audit log"
        aria-autocomplete="list"
        aria-expanded={choices.length > 0}
        aria-controls={`${id}-list`}
        aria-activedescendant={at >= 0 ? `${id}-${at}` : undefined}
        aria-invalid={problem !== ''}
        aria-describedby={problem ? `${id}-problem` : undefined}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        placeholder={placeholder}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setProblem('');
          setOpen(true);
          moved();
        }}
        onFocus={() => {
          onWant();
          setOpen(true);
        }}
        onBlur={() => setOpen(false)}
        onKeyDown={key}
        onKeyUp={(event) => {
          if (/^(Arrow(Left|Right)|Home|End)$/.test(event.key)) moved();
        }}
        onClick={() => {
          moved();
          setOpen(true);
        }}
      />
      <kbd class="key-hint" aria-hidden="true">
        /
      </kbd>
      {problem && (
        <p class="search-problem" id={`${id}-problem`} role="alert">
          {problem}
        </p>
      )}
      {choices.length > 0 && (
        <ul class="choices" id={`${id}-list`} role="listbox" aria-label="Completions">
          {choices.map((choice, i) => (
            <li
              key={choice.insert + choice.label}
              id={`${id}-${i}`}
              role="option"
              aria-selected={i === at}
              class={i === at ? 'on' : ''}
              onPointerDown={(event) => {
                event.preventDefault(); // the box keeps the focus
                take(choice);
              }}
            >
              <span class="choice-label mono">{choice.label}</span>
              <span class="choice-hint">{choice.hint}</span>
              {choice.count !== undefined && <span class="choice-count">{formatShort(choice.count)}</span>}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
