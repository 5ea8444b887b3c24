#include "tests/datasets/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "core/error.h"

namespace whittle {

namespace {

void send_all(int connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return;  // the client went away, which some tests make it do
    }
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

}  // namespace

HttpServer::HttpServer() {
  listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = 0;  // any free one
  require(listener_ >= 0 && ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
              ::listen(listener_, 8) == 0,
          "http_server", "cannot listen on 127.0.0.1");
  socklen_t size = sizeof address;
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  thread_.join();
  ::close(listener_);
}

void HttpServer::behave(Behaviour behaviour) {
  const std::lock_guard lock(mutex_);
  behaviour_ = std::move(behaviour);
  requests_.clear();
}

std::string HttpServer::url(const std::string& path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + path;
}

std::vector<std::string> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::serve() {
  while (!stopping_) {
    pollfd waiting{.fd = listener_, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, 20) == 1) {
      const int connection = ::accept(listener_, nullptr, nullptr);
      if (connection >= 0) {
        answer(connection);
        ::shutdown(connection, SHUT_RDWR);
        ::close(connection);
      }
    }
  }
}

void HttpServer::answer(int connection) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t got = ::recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0) {
      return;
    }
    request.append(buffer, static_cast<size_t>(got));
  }
  const std::lock_guard lock(mutex_);
  requests_.push_back(request);
  Behaviour& b = behaviour_;
  const std::string end = "Connection: close\r\n";
  if (b.failures > 0) {
    --b.failures;
    send_all(connection, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n" + end + "\r\nbusy");
    return;
  }
  if (!b.redirect.empty()) {
    const std::string location = std::move(b.redirect);
    b.redirect.clear();
    send_all(connection, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + "\r\n" + end + "\r\n");
    return;
  }
  if (b.status != 200) {
    send_all(connection, "HTTP/1.1 " + std::to_string(b.status) + " No\r\nContent-Length: 4\r\n" + end + "\r\nnope");
    return;
  }

  size_t from = 0;
  const std::string range = "Range: bytes=";
  const size_t at = request.find(range);
  const bool partial = b.ranges && at != std::string::npos;
  if (partial) {
    from = std::stoul(request.substr(at + range.size()));
    if (from >= b.body.size()) {
      send_all(connection, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n" + end + "\r\n");
      return;
    }
  }
  const std::string_view body = std::string_view(b.body).substr(from);
  std::string head = partial ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(from) + '-' +
                                   std::to_string(b.body.size() - 1) + '/' + std::to_string(b.body.size()) + "\r\n"
                             : "HTTP/1.1 200 OK\r\n";
  if (b.announce_size) {
    head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  }
  send_all(connection, head + end + "\r\n");
  const bool cut = b.cut_after >= 0 && b.cuts > 0 && static_cast<size_t>(b.cut_after) < body.size();
  b.cuts -= cut ? 1 : 0;
  send_all(connection, cut ? body.substr(0, static_cast<size_t>(b.cut_after)) : body);
}

}  // namespace whittle
