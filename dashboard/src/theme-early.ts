// Runs before the page is drawn, so that it is not drawn in another theme first.
try {
  const chosen = localStorage.getItem("waft-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset["theme"] = chosen;
} catch {
  // Without storage the system's theme stays.
}
export {};
