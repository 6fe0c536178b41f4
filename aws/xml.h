// Reading the XML answers of EC2, STS and S3: the only door to pugixml. Value type; a copy shares the document.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sbxfs::aws {

class Xml {
 public:
    // The document's outermost element. Nothing when `text` is not one XML document. No entity but the five of XML
    // itself is expanded and no outside reference followed.
    static std::optional<Xml> Parse(std::string_view text);

    std::string Name() const;
    // All of the text directly inside; empty when there is none.
    std::string Text() const;
    // The first child element of that name.
    std::optional<Xml> Child(std::string_view name) const;
    // Child(a), its Child(b), ... for "a/b".
    std::optional<Xml> Find(std::string_view path) const;
    // Find(path)'s text; nothing when it is not there.
    std::optional<std::string> TextAt(std::string_view path) const;
    // Child elements of that name; all of them for "".
    std::vector<Xml> Children(std::string_view name = {}) const;

 private:
    struct Document;
    Xml(std::shared_ptr<const Document> document, const void* node)
        : document_(std::move(document)), node_(node) {}
    std::shared_ptr<const Document> document_;
    const void* node_;  // pugixml's, owned by the document
};

}  // namespace sbxfs::aws
