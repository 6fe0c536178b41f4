#include "aws/xml.h"

#include <pugixml.hpp>

#include "base/strings.h"

namespace sbxfs::aws {

struct Xml::Document {
    pugi::xml_document tree;
};

namespace {

pugi::xml_node Node(const void* raw) {
    return pugi::xml_node(static_cast<pugi::xml_node_struct*>(const_cast<void*>(raw)));
}

}  // namespace

std::optional<Xml> Xml::Parse(std::string_view text) {
    auto document = std::make_shared<Document>();
    // pugixml knows no entities but the predefined ones and reads no files; a DOCTYPE is skipped.
    if (!document->tree.load_buffer(text.data(), text.size(), pugi::parse_default,
                                    pugi::encoding_utf8))
        return std::nullopt;
    const pugi::xml_node root = document->tree.document_element();
    if (!root) return std::nullopt;
    return Xml(document, root.internal_object());
}

std::string Xml::Name() const {
    return Node(node_).name();
}

std::string Xml::Text() const {
    return Node(node_).text().get();
}

std::optional<Xml> Xml::Child(std::string_view name) const {
    const pugi::xml_node child = Node(node_).child(std::string(name).c_str());
    if (!child) return std::nullopt;
    return Xml(document_, child.internal_object());
}

std::optional<Xml> Xml::Find(std::string_view path) const {
    std::optional<Xml> at = *this;
    for (const std::string& name : Split(path, '/')) {
        at = at->Child(name);
        if (!at) return std::nullopt;
    }
    return at;
}

std::optional<std::string> Xml::TextAt(std::string_view path) const {
    const auto found = Find(path);
    if (!found) return std::nullopt;
    return found->Text();
}

std::vector<Xml> Xml::Children(std::string_view name) const {
    std::vector<Xml> children;
    for (const pugi::xml_node child : Node(node_).children())
        if (child.type() == pugi::node_element && (name.empty() || name == child.name()))
            children.push_back(Xml(document_, child.internal_object()));
    return children;
}

}  // namespace sbxfs::aws
