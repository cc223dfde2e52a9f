import { useShortcut } from "./shortcuts";
import { chooseTheme, THEMES, useTheme, type Theme } from "./theme";

const LABELS: Record<Theme, string> = {
  system: "Colours: as the system",
  light: "Colours: light",
  dark: "Colours: dark",
};
const SIGNS: Record<Theme, string> = { system: "◐", light: "○", dark: "●" };

/** Goes round: system, light, dark. */
export function ThemeSwitch() {
  const theme = useTheme();
  const goOn = () => {
    chooseTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system");
  };
  useShortcut("Shift+D", "Change the colours: system, light, dark", goOn);
  return (
    <button type="button" className="icon-button" aria-label={LABELS[theme]} title={LABELS[theme]} onClick={goOn}>
      {SIGNS[theme]}
    </button>
  );
}
