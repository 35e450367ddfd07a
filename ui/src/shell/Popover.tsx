// A small panel below its button; closes on Escape, on a click elsewhere and when the content says so.
import { useEffect, useRef, useState, type ReactNode } from "react";
import css from "./shell.module.css";

export interface PopoverProps {
  readonly label: string;
  readonly button: ReactNode;
  readonly buttonClass?: string | undefined;
  readonly align?: "left" | "right";
  readonly testId?: string;
  readonly buttonData?: Readonly<Record<`data-${string}`, string>>;
  readonly children: (close: () => void) => ReactNode;
}

export function Popover({ label, button, buttonClass, align = "left", testId, buttonData, children }: PopoverProps): ReactNode {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const trigger = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    const onPointer = (event: PointerEvent): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      setOpen(false);
      trigger.current?.focus();
    };
    document.addEventListener("pointerdown", onPointer);
    document.addEventListener("keydown", onKey, true);
    return () => {
      document.removeEventListener("pointerdown", onPointer);
      document.removeEventListener("keydown", onKey, true);
    };
  }, [open]);
  return (
    <div className={css.popoverRoot} ref={root}>
      <button ref={trigger} type="button" className={buttonClass} aria-haspopup="dialog" aria-expanded={open} aria-label={label} title={label}
        data-testid={testId} {...buttonData} onClick={() => setOpen(!open)}>
        {button}
      </button>
      {open && (
        <div className={css.popover} data-align={align} role="dialog" aria-label={label}>
          {children(() => setOpen(false))}
        </div>
      )}
    </div>
  );
}
