/** Keyboard shortcuts: whoever offers one declares it, and the sheet behind `?` lists them all. */
import {
  createContext,
  useCallback,
  useContext,
  useEffect,
  useRef,
  useState,
  type ReactNode,
} from "react";
import { tinykeys } from "tinykeys";

interface Shortcut {
  /** Keys one after the other, as tinykeys writes them: "g c", "?", "/". */
  keys: string;
  /** What it does, for the sheet. */
  does: string;
}

type Registry = ReadonlyMap<string, Shortcut>;
type Register = (shortcut: Shortcut) => () => void;

const RegistryContext = createContext<Registry>(new Map());
const RegisterContext = createContext<Register>(() => () => undefined);

export function ShortcutBoard({ children }: { children: ReactNode }) {
  const [registry, setRegistry] = useState<Registry>(new Map());
  const register = useCallback<Register>((shortcut) => {
    setRegistry((known) => new Map(known).set(shortcut.keys, shortcut));
    return () => {
      setRegistry((known) => new Map([...known].filter(([keys]) => keys !== shortcut.keys)));
    };
  }, []);
  return (
    <RegisterContext value={register}>
      <RegistryContext value={registry}>{children}</RegistryContext>
    </RegisterContext>
  );
}

/** All shortcuts of what is on the screen. */
export function useShortcuts(): readonly Shortcut[] {
  return [...useContext(RegistryContext).values()];
}

/**
 * Offer a shortcut while the component is on the screen.
 *
 * It does nothing while the reader types into a field, or with Ctrl, Alt or Meta.
 */
export function useShortcut(keys: string, does: string, act: () => void): void {
  const register = useContext(RegisterContext);
  const latest = useRef(act);
  useEffect(() => {
    latest.current = act;
  });
  useEffect(() => {
    const unbind = tinykeys(window, {
      [keys]: (event) => {
        if (!isTyping(event)) {
          event.preventDefault();
          latest.current();
        }
      },
    });
    const unregister = register({ keys, does });
    return () => {
      unbind();
      unregister();
    };
  }, [keys, does, register]);
}

function isTyping(event: KeyboardEvent): boolean {
  const { target } = event;
  return (
    event.defaultPrevented ||
    (target instanceof HTMLElement &&
      (target.isContentEditable || target.closest("input, select, textarea, dialog") !== null))
  );
}
