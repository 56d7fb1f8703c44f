// What Flower's own script leaves out: the list and a job's page follow while somebody looks at them, an open job can be
// cancelled from its row, and two more states can be chosen. It runs before flower.js wires the page up.
(function () {
    "use strict";

    var SECONDS = 2,
        FILTERS = [["RECEIVED", "Waiting"], ["REVOKED", "Cancelled"]],
        OPEN = ["RECEIVED", "RETRY", "STARTED"],
        list = document.getElementById("tasks-table"),
        filters = document.querySelector(".task-state-filters");

    // What is being read, marked, reached by keyboard or waited for must not vanish under somebody's hands.
    function disturbs() {
        return document.hidden || $.active > 0 || String(window.getSelection()) !== "" ||
            document.querySelector(".toast.show") || document.activeElement.matches("#task-page *, #tasks-table *");
    }

    function refresh() {
        $(list).DataTable().ajax.reload(null, false);
    }

    function tell(message, style) {
        var box = document.createElement("div"),
            body = document.createElement("div");
        box.className = "toast border-0 text-bg-" + style;
        box.setAttribute("role", style === "danger" ? "alert" : "status");
        body.className = "toast-body";
        body.textContent = message;
        box.appendChild(body);
        box.addEventListener("hidden.bs.toast", function () {
            box.remove();
        });
        document.getElementById("toast-container").appendChild(box);
        new bootstrap.Toast(box, {delay: 5000}).show();
    }

    // Old rows look like new ones, so it is said above them; and nobody wants to be asked to dismiss it every two seconds.
    function tellAge(event, settings, rows, answer) {
        var notice = document.getElementById("board-notice"),
            behind = rows ? Number(answer.getResponseHeader("X-Board-Behind")) : 0;
        notice.textContent = !rows ? "Flower does not answer. This is how it was." :
            behind ? "This is how it was " + behind + " seconds ago: Redis does not answer." : "";
        notice.hidden = notice.textContent === "";
        return true;
    }

    function addNotice() {
        var notice = document.createElement("p");
        notice.id = "board-notice";
        notice.className = "alert alert-warning m-2";
        notice.setAttribute("role", "status");
        notice.hidden = true;
        list.parentNode.insertBefore(notice, list);
    }

    function cancel(job) {
        var top = document.getElementById("url_prefix").value.replace(/^\/*|\/*$/g, "");
        // Rows move while one aims at them.
        if (!window.confirm("Cancel this job?\n\n" + job.name + "\n" + job.uuid)) {
            document.activeElement.blur();
            return;
        }
        $.ajax({type: "POST", url: (top && "/" + top) + "/api/task/revoke/" + encodeURIComponent(job.uuid), dataType: "json"})
            .done(function (answer) {
                tell(answer.message, "success");
                refresh();
            })
            .fail(function (answer) {
                tell(answer.responseText || "Flower does not answer.", "danger");
            });
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

    function dressRow(row) {
        var job = $(list).DataTable().row(row).data(),
            badge = row.querySelector(".badge"),
            id = row.querySelector(".task-uuid-short"),
            button;
        // Ids begin with the time, so the first block, which Flower has for narrow screens, is everybody's.
        if (id) {
            id.textContent = "…" + job.uuid.slice(-8);
        }
        if (badge && OPEN.indexOf(job.state) >= 0) {
            button = document.createElement("button");
            button.type = "button";
            button.className = "btn-close board-cancel";
            button.title = "Cancel this job";
            button.setAttribute("aria-label", "Cancel " + job.name);
            button.addEventListener("click", function () {
                cancel(job);
            });
            badge.after(button);
        }
        row.querySelectorAll("td").forEach(function (cell) {
            if (cell.scrollWidth > cell.clientWidth) {
                cell.title = cell.textContent;
            }
        });
    }

    if (list && filters) {
        FILTERS.forEach(function (one) {
            addFilter(one[0], one[1]);
        });
        addNotice();
        $(list).on("xhr.dt", tellAge);
        $(list).on("init.dt", function () {
            document.querySelector("#tasks-table_filter input").placeholder = "ada   kwargs:user=42   state:FAILURE worker:w1@host";
        });
        $(list).on("draw.dt", function () {
            markFilter();
            list.querySelectorAll("tbody tr[id]").forEach(dressRow);
            // The head is a table of its own, as wide as the columns were before.
            $(list).DataTable().columns.adjust();
        });
        window.setInterval(function () {
            if (!disturbs()) {
                refresh();
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
