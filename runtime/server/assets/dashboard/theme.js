try{let t=localStorage.getItem("waft-theme");(t==="light"||t==="dark")&&(document.documentElement.dataset.theme=t)}catch{}
