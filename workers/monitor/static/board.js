// Flower shows the moment a page was loaded. This keeps the list and a job's own page up to date while somebody looks at
// them, and adds two buttons to those that choose a state. It runs before flower.js wires the page up.
(function () {
    "use strict";

    var SECONDS = 2,
        OURS = [["RECEIVED", "Waiting"], ["REVOKED", "Cancelled"]],
        list = document.getElementById("tasks-table"),
        filters = document.querySelector(".task-state-filters");

    // Nobody wants text to vanish that is being read, marked or copied.
    function disturbs() {
        return document.hidden || String(window.getSelection()) !== "" || document.querySelector(".toast.show");
    }

    function addFilter(state, label) {
        var button = filters.querySelector("[data-task-state=STARTED]").cloneNode();
        button.setAttribute("data-task-state", state);
        button.textContent = label;
        filters.appendChild(button);
    }

    // Flower marks the button of a state it knows; of ours it would mark "All".
    function markFilter() {
        var found = /(?:^|\s)state:(\w+)/i.exec($(list).DataTable().search()),
            state = found ? found[1].toUpperCase() : "";
        filters.querySelectorAll("[data-task-state]").forEach(function (button) {
            var chosen = button.getAttribute("data-task-state") === state;
            button.classList.toggle("active", chosen);
            button.setAttribute("aria-pressed", chosen);
        });
    }

    // Ids begin with the time, so the first block, which Flower has for narrow screens, is everybody's: the last tells them apart.
    function shortenIds() {
        list.querySelectorAll(".task-uuid-short").forEach(function (id) {
            id.textContent = "…" + id.parentNode.title.slice(-12);
        });
    }

    // What does not fit its cell is told to whoever points at it.
    function tellWhole() {
        list.querySelectorAll("tbody td").forEach(function (cell) {
            if (cell.scrollWidth > cell.clientWidth) {
                cell.title = cell.textContent;
            }
        });
    }

    function drawn() {
        markFilter();
        shortenIds();
        tellWhole();
    }

    if (list && filters) {
        OURS.forEach(function (one) {
            addFilter(one[0], one[1]);
        });
        $(list).on("draw.dt", drawn);
        window.setInterval(function () {
            if (!disturbs()) {
                $(list).DataTable().ajax.reload(null, false);
            }
        }, SECONDS * 1000);
    }

    // A job that has ended has no button and does not change.
    if (document.querySelector("#task-terminate, #task-revoke")) {
        window.setInterval(function () {
            if (!disturbs()) {
                window.location.reload();
            }
        }, SECONDS * 1000);
    }
}());
