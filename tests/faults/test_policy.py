"""Honest programs that the sandbox's policy refused, and files of Debian's packages that it did not show."""

import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from sandboxed import PYTHON

from faults.conftest import Run

SANITIZERS = {
    "address": ("char *p = malloc(4); p[4] = 1;", "heap-buffer-overflow"),
    "leak": ("malloc(4);", "detected memory leaks"),
    "thread": (
        "pthread_t t; pthread_create(&t, 0, work, 0); shared++; pthread_join(t, 0);",
        "data race",
    ),
    "undefined": ('int x = 0x7fffffff; x += argc; printf("%d", x);', "signed integer overflow"),
}


@pytest.fixture
def run(run_fault: Run) -> Any:
    """The result of a program in a language."""

    def run(language: str, source: str, **fields: Any) -> Any:
        changes = {
            "language": language,
            "source": textwrap.dedent(source).lstrip(),
            "compile_args": [],
        }
        return run_fault("asan-setrlimit", **changes | fields)

    return run


def said(result: dict[str, Any]) -> str:
    assert result["verdict"] == "ok", result
    stdout: str = result["run"]["stdout"]
    return stdout


def test_address_sanitizer_starts(run_fault: Run) -> None:
    assert said(run_fault("asan-setrlimit")) == ""  # the fault itself is optimised away


@pytest.mark.parametrize("name", SANITIZERS)
def test_sanitizers_start_and_find_the_fault(run: Any, name: str) -> None:
    body, finding = SANITIZERS[name]
    result = run(
        "c",
        f"""
        #include <pthread.h>
        #include <stdio.h>
        #include <stdlib.h>
        static int shared;
        static void *work(void *x) {{ shared++; return x; }}
        int main(int argc, char **argv) {{ (void)work; {body} return 0; }}
        """,
        compile_args=[f"-fsanitize={name}", "-g", "-O0"],
    )
    assert finding in result["run"]["stderr"], result


def test_bash_may_forbid_core_files(run: Any) -> None:
    assert said(run("bash", "set -e; ulimit -c 0; ulimit -Sc 0; ulimit -Hc 0; echo ok")) == "ok\n"


def test_interfaces_are_the_loopback_alone(run_fault: Run, run: Any) -> None:
    assert "127.0.0.1" in said(run_fault("netlink-denied"))
    addresses = run(
        "c",
        """
        #include <ifaddrs.h>
        #include <stdio.h>
        int main(void) {
            struct ifaddrs *all;
            if (getifaddrs(&all)) { perror("getifaddrs"); return 1; }
            for (; all; all = all->ifa_next) puts(all->ifa_name);
        }
        """,
    )
    assert set(said(addresses).split()) == {"lo"}


SERVERS = {
    "python": """
        import http.server, threading, urllib.request
        server = http.server.ThreadingHTTPServer(("localhost", 8000), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(urllib.request.urlopen("http://localhost:8000/").status)
        """,
    "javascript": """
        const http = require("http");
        const server = http.createServer((_, answer) => answer.end("x")).listen(8000, () =>
            http.get("http://localhost:8000/", (it) => { console.log(it.statusCode); process.exit(); }));
        """,
    "java": """
        import java.net.*; import com.sun.net.httpserver.*;
        public class Main { public static void main(String[] args) throws Exception {
            HttpServer server = HttpServer.create(new InetSocketAddress("localhost", 8000), 0);
            server.createContext("/", it -> { it.sendResponseHeaders(200, -1); it.close(); });
            server.start();
            var url = new URL("http://localhost:8000/");
            System.out.println(((HttpURLConnection) url.openConnection()).getResponseCode());
            new DatagramSocket(0).close(); new ServerSocket(0).close();
            java.nio.channels.DatagramChannel.open().close();
            System.exit(0);
        } }
        """,
    "go": """
        package main
        import ("fmt"; "net"; "net/http")
        func main() {
            listener, err := net.Listen("tcp", "localhost:0")
            if err != nil { panic(err) }
            go http.Serve(listener, http.NotFoundHandler())
            answer, err := http.Get("http://" + listener.Addr().String())
            if err != nil { panic(err) }
            if _, err := net.ListenPacket("udp", "127.0.0.1:0"); err != nil { panic(err) }
            if all, err := net.Interfaces(); err != nil || len(all) != 1 { panic(err) }
            fmt.Println(answer.StatusCode - 204)
        }
        """,
    "ruby": """
        require "socket"
        server = TCPServer.new("localhost", 8000)
        Thread.new { server.accept.puts 200 }
        puts TCPSocket.new("localhost", 8000).gets
        """,
    "perl": """
        use IO::Socket::INET;
        my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => "localhost", ReuseAddr => 1) or die $@;
        my $client = IO::Socket::INET->new(PeerAddr => "localhost", PeerPort => $server->sockport) or die $@;
        $server->accept->print("200\\n"); print scalar <$client>;
        """,
    "php": """
        <?php
        $server = stream_socket_server("tcp://localhost:8000");
        $client = stream_socket_client("tcp://localhost:8000");
        fwrite(stream_socket_accept($server), "200\\n"); echo fgets($client);
        """,
    "rust": """
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        fn main() {
            let server = TcpListener::bind("localhost:0").unwrap();
            let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            server.accept().unwrap().0.write_all(b"200\\n").unwrap();
            let mut text = String::new(); client.read_to_string(&mut text).unwrap(); print!("{text}");
        }
        """,
}  # fmt: skip


@pytest.mark.parametrize("language", SERVERS)
def test_server_and_client_in_one_program(run: Any, language: str) -> None:
    assert said(run(language, SERVERS[language])) == "200\n"


def test_files_can_be_watched(run: Any) -> None:
    watched = run(
        "c",
        """
        #include <fcntl.h>
        #include <stdio.h>
        #include <sys/inotify.h>
        #include <unistd.h>
        int main(void) {
            char event[4096];
            int watch = inotify_init();
            if (inotify_add_watch(watch, ".", IN_CREATE) < 0) { perror("inotify"); return 1; }
            close(open("made", O_CREAT | O_WRONLY, 0600));
            if (read(watch, event, sizeof event) > 0) puts(((struct inotify_event *)event)->name);
        }
        """,
    )
    assert said(watched) == "made\n"


def test_thread_names_another(run_fault: Run) -> None:
    assert said(run_fault("thread-name-of-another")) == "Success\n"


def test_var_tmp_can_be_written(run_fault: Run) -> None:
    assert said(run_fault("var-tmp-not-writable")) == "ok\n"


def test_plots_of_debians_matplotlib(run_fault: Run) -> None:
    assert Path("/usr/lib/python3/dist-packages/matplotlib").is_dir(), "install python3-matplotlib"
    assert said(run_fault("matplotlib-of-debian", limits={"wall_time": 30})) == "ok\n"


def test_fonts_are_found(run: Any) -> None:
    fonts = run("bash", "test -e /etc/fonts/fonts.conf && fc-list | grep -c .")
    assert int(said(fonts)) > 0


def test_gems_of_the_machine_are_found(run: Any) -> None:
    assert said(run("ruby", 'puts Dir.exist?("/var/lib/gems")')) == (
        "true\n" if Path("/var/lib/gems").exists() else "false\n"
    )


LEADING_NOWHERE = """
import os
for top in "bin", "lib/python3.11", "share/perl", "lib/jvm", "share/fonts", "lib/ssl":
    for folder, folders, files in os.walk("/usr/" + top):
        for path in (os.path.join(folder, name) for name in folders + files):
            if os.path.islink(path) and not os.path.exists(path): print(path)
"""


def test_links_lead_where_they_lead_on_the_machine(run: Any) -> None:
    """Debian's packages put links below /usr to their configuration in /etc."""
    here = subprocess.run(
        [PYTHON, "-c", LEADING_NOWHERE], capture_output=True, text=True, check=True
    )
    there = said(run("python", LEADING_NOWHERE, limits={"wall_time": 60, "cpu_time": 30}))
    assert set(there.split()) - set(here.stdout.split()) == {
        "/usr/lib/ssl/private"
    }  # and shall not


def test_configuration_of_debians_languages_is_shown(run: Any) -> None:
    looked = run(
        "python",
        """
        import mimetypes, os, socket, ssl, sys
        print(len(ssl.create_default_context().get_ca_certs()) > 9)
        print(socket.getservbyname("https"), socket.getprotobyname("tcp"))
        print(mimetypes.guess_type("a.epub")[0])
        print(os.path.exists(f"/etc/python3.{sys.version_info[1]}/sitecustomize.py"))
        """,
    )
    assert said(looked).splitlines() == ["True", "443 6", "application/epub+zip", "True"]
