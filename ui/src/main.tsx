import { createRoot } from "react-dom/client";
import { App } from "./shell/App";
import "./tokens.css";

const root = document.getElementById("root");
if (root !== null) createRoot(root).render(<App />);
