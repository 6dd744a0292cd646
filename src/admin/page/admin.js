// What the page gains with a script: a button that copies a new key, and times by the clock of the reader.

for (const time of document.querySelectorAll("time")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) {
    time.title = time.textContent;
    time.textContent = at.toLocaleString();
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  const copied = document.querySelector("[data-copied]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      copied.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      copied.textContent = "Selected; copy it with the keyboard";
    }
  });
}

// The address of a form in the history would send it again.
if (location.pathname === "/admin/form") history.replaceState(null, "", "/admin");
