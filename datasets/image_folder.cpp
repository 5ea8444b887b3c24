#include "datasets/image_folder.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/file.h"
#include "datasets/picture.h"
#include "datasets/text.h"

namespace whittle::inline WHITTLE_PRECISION::data {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> visible_entries(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_passed_over(entry->path())) {
      entries.push_back(entry->path());
    }
  }
  require(!error, "images", folder.string(), ": cannot be listed: ", error.message());
  std::ranges::sort(entries);
  return entries;
}

Picture read_picture(const fs::path& path, int64_t channels) {
  std::string kind = path.extension().string();
  std::ranges::transform(kind, kind.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool named_jpeg = kind == ".jpg" || kind == ".jpeg";
  require(named_jpeg || kind == ".png" || kind == ".bmp", "images", path.string(),
          ": is not a .png, .bmp, .jpg or .jpeg file");
  const std::vector<std::byte> bytes = read_file(path, uint64_t{256} << 20);
  require(!bytes.empty(), "images", path.string(), ": is empty");
  // Many a .jpg of the web is a PNG. Only where the first bytes say nothing, the name does.
  const auto begins = [&](std::initializer_list<uint8_t> magic) {
    return bytes.size() >= magic.size() && std::ranges::equal(magic, std::span(bytes).first(magic.size()),
                                                              [](uint8_t a, std::byte b) { return std::byte{a} == b; });
  };
  const bool jpeg = begins({0xff, 0xd8}) || (named_jpeg && !begins({0x89, 'P', 'N', 'G'}) && !begins({'B', 'M'}));
  return (jpeg ? decode_jpeg : decode_png_or_bmp)(bytes, channels, path.string());
}

}  // namespace

bool is_passed_over(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.starts_with('.') || name == "Thumbs.db" || name == "desktop.ini";
}

Dataset read_image_folder(const fs::path& folder, const ImageFolderOptions& options) {
  require((options.height > 0) == (options.width > 0), "images", "give height and width, or neither, not ",
          options.height, " x ", options.width);
  require(fs::is_directory(folder), "images", folder.string(), ": is not a folder");
  Preprocessing preprocessing{
      .data = options.name,
      .sample = {std::max<int64_t>(options.height, 1), std::max<int64_t>(options.width, 1), options.channels}};
  Samples samples;
  int64_t height = options.height, width = options.width;
  for (const fs::path& class_folder : visible_entries(folder)) {
    require(fs::is_directory(class_folder), "images", class_folder.string(),
            ": a file among the class folders; pictures lie in ", folder.string(), "/CLASS/");
    const std::string name = class_folder.filename().string();
    require(is_utf8(name), "images", class_folder.string(), ": the name of the class is not UTF-8; rename the folder");
    const auto known = std::ranges::find(options.classes, name);
    require(options.classes.empty() || known != options.classes.end(), "images", class_folder.string(),
            ": the network knows no such class");
    const auto label = static_cast<int32_t>(
        options.classes.empty() ? preprocessing.classes.size() : static_cast<size_t>(known - options.classes.begin()));
    preprocessing.classes.push_back(name);
    const std::vector<fs::path> files = visible_entries(class_folder);
    require(!files.empty(), "images", class_folder.string(), ": holds no pictures");
    for (const fs::path& file : files) {
      Picture picture = read_picture(file, options.channels);
      if (options.height > 0) {
        picture = resized(picture, height, width);
      } else if (samples.labels.empty()) {
        height = picture.height;
        width = picture.width;
      }
      require(picture.height == height && picture.width == width, "images", file.string(), ": is ", picture.height,
              " x ", picture.width, ", the pictures before it are ", height, " x ", width,
              "; give a height and a width to resize them (--image-size 32,32)");
      samples.pixels.insert(samples.pixels.end(), picture.pixels.begin(), picture.pixels.end());
      samples.labels.push_back(label);
      require(samples.pixels.size() <= options.max_bytes, "images", file.string(),
              ": with it the pictures take more "
              "than ",
              options.max_bytes, " bytes");
    }
  }
  if (!options.classes.empty()) {
    preprocessing.classes = options.classes;
  }
  require(preprocessing.classes.size() >= 2, "images", folder.string(), ": holds ", preprocessing.classes.size(),
          " class folders, classification needs two");
  preprocessing.sample = {height, width, options.channels};
  return Dataset(std::move(preprocessing), std::move(samples));
}

Dataset read_pictures(std::span<const fs::path> files, const Preprocessing& network) {
  const Shape& shape = network.sample;
  require(shape.rank() == 3, "images", "the network reads rows of ", shape[0], " numbers, not pictures");
  Samples samples;
  for (const fs::path& file : files) {
    const Picture picture = resized(read_picture(file, shape[2]), shape[0], shape[1]);
    samples.pixels.insert(samples.pixels.end(), picture.pixels.begin(), picture.pixels.end());
  }
  return unanswered(network, std::move(samples));
}

}  // namespace whittle::inline WHITTLE_PRECISION::data
