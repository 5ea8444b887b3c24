// A very small HTTP server on 127.0.0.1, for the tests of downloading: it knows Range
// and can misbehave.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace whittle {

class HttpServer {
 public:
  struct Behaviour {
    std::string body{};
    bool ranges = true;         // false: Range headers are ignored, the whole file is sent
    int64_t cut_after = -1;     // close the connection after so many bytes of body; -1: never
    int cuts = 1 << 30;         // how many answers are cut that way
    int status = 200;           // anything else is answered without the body
    std::string redirect{};     // answer 302 to there
    bool announce_size = true;  // send Content-Length
    int failures = 0;           // answer so many requests with 503 first
  };

  HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  void behave(Behaviour behaviour);
  std::string url(const std::string& path = "/file") const;
  std::vector<std::string> requests() const;  // the heads of all requests so far

 private:
  void serve();
  void answer(int connection);

  mutable std::mutex mutex_;
  Behaviour behaviour_;
  std::vector<std::string> requests_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace whittle
