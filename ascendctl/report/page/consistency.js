"use strict";
(() => {
  // The words of both languages are in the page; the language of the page says which of them show.
  const page = document.documentElement;
  const button = document.getElementById("language");
  const speak = (language) => { page.lang = language; };
  button.addEventListener("click", () => speak(page.lang === "zh" ? "en" : "zh"));
  if ((navigator.language || "").toLowerCase().startsWith("zh")) speak("zh");
  // A tile of the map leads to its prompt, which has to be open to be seen.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  addEventListener("beforeprint", () => document.querySelectorAll("details.prompt").forEach((one) => { one.open = true; }));
  open();
})();
