// A browser without a window, where there is one: it draws the charts of a page into files, and tests look at pages
// with it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace whittle::apps::report {

class Browser {
 public:
  static bool available();

  Browser();  // throws Error if there is none
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  // Lives as long as the Browser.
  const std::filesystem::path& folder() const { return folder_; }

  struct Shown {
    std::string dom;  // the document as it is when its scripts are done
    std::string log;  // what the browser says, with the page's console in lines that hold "CONSOLE"
  };
  Shown open(const std::filesystem::path& page, const std::string& fragment = {}) const;

  // A picture of the first so many pixels of a page or an SVG file, each four pixels of the PNG file.
  void picture(const std::filesystem::path& page, const std::filesystem::path& png, int width, int height) const;

 private:
  Shown run(const std::vector<std::string>& arguments) const;

  std::filesystem::path program_;
  std::filesystem::path folder_;
};

}  // namespace whittle::apps::report
